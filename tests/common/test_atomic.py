"""Files that are either whole or not there, at any moment and after any error."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utuning_search.common.errors import StudyError
from utuning_search.common.files import write_atomically

OLD = "what was there before"
CONTENTS: dict[str, bytes | str | Callable[[Path], None]] = {
    "bytes": b"the new content",
    "text": "the new content",
    "function": lambda path: path.write_text("the new content"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.b.toml"
    found.write_text(OLD)
    return found


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_whoever_reads_meanwhile_reads_the_whole_old_content(
    content: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new one is whole, and on the disk, and takes its place in one step."""
    seen: list[tuple[str, str]] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        seen.append((path.read_text(), self.read_text()))
        assert self.parent == target.parent, "a move to another disk is no step"
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(path, content)
    assert seen == [(OLD, "the new content")]
    assert path.read_text() == "the new content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"new", "new"], ids=["bytes", "text"])
def test_what_takes_the_place_is_on_the_disk(content: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after it must not leave an empty file."""
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("synced"), real_sync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("moved"), real_replace(self, target))[1])
    write_atomically(path, content)
    assert done == ["synced", "moved"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["caf\udce9", "\ud800", "x" * 99 + "\udcff" + "y" * 99])
def test_a_name_that_is_no_text_is_told_and_nothing_is_written(name: str, there: bool, path: Path) -> None:
    if not there:
        path.unlink()
    with pytest.raises(StudyError, match=r"what is written into it is text; got .*Give files and folders") as told:
        write_atomically(path, f"place = '{name}'\n")
    str(told.value).encode()
    assert [p.read_text() for p in path.parent.iterdir()] == [OLD] * there


def half(path: Path) -> None:
    path.write_text("the first ha")
    raise OSError(28, "No space left on device")


class Killed(BaseException):
    """The end of a process."""


def killed(path: Path) -> None:
    path.write_text("the first ha")
    raise Killed


@pytest.mark.parametrize(("content", "error"), [(half, StudyError), (killed, Killed)])
@pytest.mark.parametrize("there", [True, False])
def test_an_error_amid_the_writing_leaves_what_was_there(
    content: Any, error: type[BaseException], there: bool, path: Path
) -> None:
    if not there:
        path.unlink()
    with pytest.raises(error):
        write_atomically(path, content)
    assert [p.read_text() for p in path.parent.iterdir()] == [OLD] * there
