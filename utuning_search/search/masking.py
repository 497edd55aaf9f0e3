"""Storage URLs and messages about them without what gives access: passwords, tokens and the like."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from utuning_search.common.lazy import load

MASK = "***"
HIDDEN = "its message is not shown, as it may hold the password"
SHORTEST = 3  # characters of a secret that can be found in a message without finding it everywhere
# Of parameters in a URL, and of those in an ODBC connection string; the latter is one parameter.
_SECRET = "pass|pwd|secret|token|credential|auth|api_?key|(?:access|account|private|shared)_?key|odbc_connect"
_NAMES = rf"[^=&?;]*(?:{_SECRET})[^=&?;]*"
_USER = re.compile(
    r"(^[^:/@]*:|://[^:/@]*:)(?!//)(.*)(@)", re.DOTALL
)  # up to the last @: a password may hold one, a slash, a space
_QUERY = re.compile(rf"([?&;]{_NAMES}=)(.*)", re.IGNORECASE | re.DOTALL)  # to the end: a password may hold an &
_ODBC = re.compile(rf"(?:^|;)\s*{_NAMES}\s*=\s*(\{{(?:[^}}]|}}}})*\}}[^;]*|[^;]*)", re.IGNORECASE)


def mask(url: str) -> str:
    """A storage URL fit for screens and files: what gives access is replaced by ***."""
    return _USER.sub(rf"\1{MASK}\3", _QUERY.sub(rf"\1{MASK}", url))


def masked(message: str, url: str) -> str:
    """A message about a storage without what gives access to it, however a driver wrote that.

    Drivers name parts of what they took a URL for: of a password with an @ in it the rest is a host to some.
    """
    found = {form for secret in _secrets(url) for form in _forms(secret)} - {""}
    present = {form for form in found if form in message}
    if any(len(form) < SHORTEST for form in present):
        return HIDDEN
    for form in sorted(present, key=len, reverse=True):
        message = message.replace(form, MASK)
    return mask(message)


def _secrets(url: str) -> Iterator[str]:
    """What a URL holds that gives access, as it is written and as SQLAlchemy reads it, and parts of it."""
    queried = [m[2] for m in _QUERY.finditer(url)]
    written = [m[2] for m in _USER.finditer(_QUERY.sub("", url))] + [text.split("&")[0] for text in queried]
    try:
        parsed: Any = load("sqlalchemy.engine", "make_url")(url)
    except Exception:  # no URL at all: what it looks like decides
        parsed = None
    if parsed is not None:
        written += [str(parsed.password or "")]
        for name, value in parsed.query.items():
            if re.fullmatch(_NAMES, name, re.IGNORECASE):
                written += [value] if isinstance(value, str) else value
    for secret in written:
        yield secret
        inside = [value.strip("{} ") for text in (secret, unquote_plus(secret)) for value in _ODBC.findall(text)]
        yield from inside
        if not inside:  # an ODBC string has parts that are no secrets
            yield from re.split(r"[@/ ]", secret)
            yield from (secret.split("@", i)[-1] for i in range(1, secret.count("@") + 1))
    for text in queried:  # what follows may be its, after an & in it
        yield from (part for part in re.split(r"[@/ &=]", text) if len(part) >= SHORTEST)


def _forms(secret: str) -> Iterator[str]:
    """How drivers and their libraries write a secret."""
    for text in (secret, unquote(secret), unquote_plus(secret)):
        yield from (text, repr(text)[1:-1])
        yield from (quoted(text, errors="surrogatepass") for quoted in (quote, quote_plus))
