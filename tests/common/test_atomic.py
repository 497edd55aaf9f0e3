"""Files that are either whole or not there, at any moment and after any error; and what a killed process leaves."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utuning_search.common.errors import StudyError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.leftovers import leftovers, remove_leftovers

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


# Leftovers


def left_by(write: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write, and be killed before anything can be tidied up."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: None)  # noqa: ARG005  # killed before it
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # noqa: ARG005
        write()


@pytest.mark.parametrize("name", ["run.toml", ".images.safetensors", "00017.safetensors", "splits.json", "plain"])
def test_what_a_killed_process_leaves_is_found_and_removed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {tmp_path / n for n in (name, ".lock", ".journal.log.lock", "journal.log", ".hidden", "trial_12345678.csv")}
    for file in kept:
        file.write_text(OLD)
    left_by(lambda: write_atomically(tmp_path / name, "half"), monkeypatch)
    (found,) = leftovers(tmp_path)
    assert leftovers(tmp_path, (name, "other.toml")) == [found]
    assert leftovers(tmp_path, ("other.toml",)) == []
    remove_leftovers(tmp_path, ("other.toml",))
    assert found.exists(), "a file was removed that another one may be writing"
    remove_leftovers(tmp_path, (name,))
    assert set(tmp_path.iterdir()) == kept


def test_folders_that_look_alike_or_are_not_there(tmp_path: Path) -> None:
    (tmp_path / ".a.12345678").mkdir()
    remove_leftovers(tmp_path)
    assert (tmp_path / ".a.12345678").is_dir()
    assert leftovers(tmp_path / "nowhere") == []
    make_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
