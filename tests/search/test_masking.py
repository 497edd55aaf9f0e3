"""What gives access to a storage is on no screen and in no file, whatever a driver says."""

from pathlib import Path
from urllib.parse import quote_plus, unquote_plus

import pytest

from utuning_search.common.errors import StudyError
from utuning_search.search.masking import HIDDEN, mask, masked
from utuning_search.search.storage import open_storage

SECRETS = ("s3cr3t", "at@s3cr3t", "s3@cr3t@more", "sp ace s3cr3t", "s3cr3t/slash", "s3:cr3t", "s3cr3t%25", "s3cr3t?x")
PLACES = {
    "user": "postgresql://me:{}@db.example.org:5432/studies",
    "nobody": "postgresql+psycopg://:{}@db.example.org/studies",
    "query": "postgresql://db.example.org/studies?sslmode=require&password={}",
    "sslpassword": "postgresql://me@db.example.org/studies?sslpassword={}&x=1",
    "capitals": "mysql://db.example.org/studies?PassWd={}",
    "key": "snowflake://db.example.org/studies?private_key={}",
    "access": "athena://db.example.org/studies?aws_access_key_id={}",
    "auth": "mongodb://db.example.org/studies?authMechanismProperties={}",
    "token": "trino://db.example.org/studies?access_token={}",
    "no url": "me:{}@db.example.org",
}


def odbc(secret: str) -> str:
    return f"mssql+pyodbc:///?odbc_connect={quote_plus(f'DRIVER=x;SERVER=db.example.org;UID=me;PWD={secret};Opt=1')}"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", [p for p in PLACES if p != "no url"])
def test_a_url_is_shown_without_its_secret(secret: str, place: str) -> None:
    shown = mask(PLACES[place].format(secret))
    assert "s3" not in shown
    assert "cr3t" not in shown
    assert "more" not in shown
    assert "***" in shown
    assert "db.example.org" in shown


def test_an_odbc_string_is_shown_without_its_secret() -> None:
    assert mask(odbc("s3cr3t")) == "mssql+pyodbc:///?odbc_connect=***"


@pytest.mark.parametrize("url", ["sqlite:///a@b:c.db", "postgresql://me@h/d?sslmode=require", "sqlite:///x.db", ""])
def test_a_url_without_a_secret_is_shown_as_it_is(url: str) -> None:
    assert mask(url) == url
    assert masked(f"cannot open {url}", url) == f"cannot open {url}"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", PLACES)
def test_a_message_is_shown_without_the_secret(secret: str, place: str) -> None:
    """As written, as decoded, as quoted, and the part of it that a driver took for a host."""
    url = PLACES[place].format(secret)
    for said in (secret, quote_plus(secret), secret.split("@", 1)[-1], secret.split("@")[0], repr(secret), url):
        shown = masked(f"cannot reach {said!s}: no such host", url)
        assert shown == HIDDEN or shown.startswith("cannot reach ")
        for part in ("s3cr3t", "cr3t@more", "more", "s3@", "ace s3"):
            assert part not in shown or part not in said, shown


@pytest.mark.parametrize("odd", ["\n", "\x1b[2J", "\ud800", "'", "\\", "é", "%", "\u202e"])
@pytest.mark.parametrize("place", PLACES)
def test_a_message_is_shown_without_a_secret_of_odd_letters(odd: str, place: str) -> None:
    """Quoted in the URL or not, and as Python shows it."""
    for secret in (f"{odd}s3cr3t", f"s3cr3t{odd}", f"s3cr3t{odd}s3cr3t"):
        quoted = quote_plus(secret, errors="surrogatepass")
        for url in (PLACES[place].format(quoted), PLACES[place].format(secret)):
            if quoted in url and unquote_plus(quoted) != secret:
                continue  # of bytes that are no text: no driver has it back
            for said in (quoted, secret, repr(secret), url, repr(url)) if quoted in url else (secret, repr(secret)):
                assert "cr3t" not in masked(f"cannot log in with {said}", url), (url, said)


@pytest.mark.parametrize("secret", ["s3cr3t", "s3 cr3t", "{s3;cr3t}", "{}s3cr3t", "{a}s3cr3t"])
def test_a_message_is_shown_without_what_is_in_an_odbc_string(secret: str) -> None:
    shown = masked(f"login failed with {secret.strip('{}')} at db.example.org", odbc(secret))
    assert "cr3t" not in shown
    assert "db.example.org" in shown


def test_a_message_is_shown_without_what_follows_an_ampersand_in_a_secret() -> None:
    """It may be the rest of it. Of a rest as short as a letter that would hide every message."""
    url = "postgresql://db.example.org/studies?password=first&s3cr3t=1&b"
    assert masked("no option b s3cr3t of db.example.org", url) == "no option b *** of db.example.org"


def test_a_secret_that_is_everywhere_hides_the_message() -> None:
    assert masked("cannot connect", "postgresql://me:c@h/d") == HIDDEN
    assert masked("no", "postgresql://me:c@h/d") == "no"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:aaa@s3cr3t@127.0.0.1:1/d",
        "postgresql+psycopg://me:aaa s3cr3t@127.0.0.1:1/d",
        "postgresql+psycopg://me:aaa@bbb s3cr3t@127.0.0.1:1/d",
        "postgresql+psycopg://127.0.0.1:1/d?user=me&password=aaa@s3cr3t",
        "postgresql+psycopg:///d?host=127.0.0.1&port=1&password=x&s3cr3t=1",
    ],
)
def test_a_drivers_own_message_is_shown_without_the_secret(url: str, tmp_path: Path) -> None:
    """It is the driver that answers, not the lack of one."""
    with pytest.raises(StudyError) as refused:
        open_storage(url, tmp_path)
    assert "s3cr3t" not in str(refused.value)
    assert "ModuleNotFoundError" not in str(refused.value)
    assert "Error: " in refused.value.got
