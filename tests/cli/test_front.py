"""`front`: one front in every format, and a picture."""

import csv
import errno
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from utuning_search.designs.design import Design
from utuning_search.search.storage import JournalLock

from .commands import refused, rows, succeeded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("front", "smoke-tiny", "--format", "yaml"), "--format: format is one of table, json, csv; got 'yaml'"),
        (("front", "smoke-tiny", "--png", "."), "--png: it names a file; got '.'"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_what_cannot_be_shown_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize("place_", ["no-such-folder/x.png", "tiny.toml/x.png", "studies"])
@pytest.mark.usefixtures("studied")
def test_a_picture_that_cannot_be_written_is_told(place_: str) -> None:
    assert f"file {place_}: it can be written" in refused("front", "smoke-tiny", "--png", place_)


@pytest.mark.usefixtures("studied")
def test_front_in_every_format_is_one_front() -> None:
    stored = rows("studies/smoke-tiny/front.csv")
    out = succeeded("front", "smoke-tiny", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(out))) == stored
    listed = json.loads(succeeded("front", "smoke-tiny", "--format", "json"))
    assert [str(r["trial"]) for r in listed] == [r["trial"] for r in stored]
    assert [Design.from_dict(r["design"]).key for r in listed] == [r["key"] for r in stored]
    page = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    section = page.split("\n## front\n")[1].split("\n## ")[0]
    assert not [k for r in listed for k in r if f"`{re.sub('epoch_[0-9]+', 'epoch_N', k)}`" not in section]
    table = succeeded("front", "smoke-tiny")
    for row in stored:
        assert f"{100 * float(row['accuracy']):.2f}%" in table
        assert f"{int(row['parameters']):,}" in table
        assert row["nearest"].split(",")[0] in table
    assert stored[0]["nearest"] == "Linear probe"
    assert [r["nearest"] for r in listed] == [r["nearest"] for r in stored]


@pytest.mark.parametrize("name", ["front.png", "front.jpg", "picture"])
@pytest.mark.usefixtures("studied")
def test_front_draws_a_png_whatever_its_name(name: str) -> None:
    succeeded("front", "smoke-tiny", "--png", name)
    with Image.open(name) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def stamps() -> dict[Path, int]:
    """When each file and folder was changed; in a folder, a file that came and went is a change."""
    return {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}


@pytest.mark.parametrize(
    "arguments", [(), ("--format", "csv"), ("--format", "json"), ("--studies-dir", "studies/../studies")]
)
@pytest.mark.usefixtures("studied")
def test_looking_does_not_write(arguments: tuple[str, ...]) -> None:
    """So it works where nobody may write: neither tables nor locks, nor a file that is gone again."""
    Path("studies/smoke-tiny/front.csv").unlink()
    before = stamps()
    assert "linear" in succeeded("front", "smoke-tiny", *arguments)
    assert stamps() == before


@pytest.mark.usefixtures("studied")
def test_a_torn_journal_is_told_where_nobody_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("studies/smoke-tiny/journal.log").open("ab") as file:
        file.write(b"torn")

    def acquire(lock: JournalLock) -> bool:
        raise OSError(errno.EROFS, f"Read-only file system {lock is None}")

    monkeypatch.setattr(JournalLock, "acquire", acquire)
    assert "every line is whole; got 4 unreadable bytes" in refused("front", "smoke-tiny")


@pytest.mark.parametrize("name", ["renamed", "smoke-tiny-2", "smoke.tiny"])
@pytest.mark.parametrize("command", ["front", "export", "resume", "confirm"])
def test_a_renamed_folder_says_which_study_it_holds(name: str, command: str, studied: Path) -> None:
    (studied / "studies" / "smoke-tiny").rename(studied / "studies" / name)
    told = refused(command, name)
    assert f"it holds the study '{name}'; got the study 'smoke-tiny'. Call the folder smoke-tiny again" in told
