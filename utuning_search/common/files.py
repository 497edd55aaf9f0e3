"""Files that are either whole or not there, written beside their place and then moved."""

import contextlib
import glob
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from utuning_search.common.errors import StudyError

UNFINISHED = ".unfinished"  # in the name of what is being written
LETTERS = 40  # of a name that is being written
# Older versions left out the word.
_HALF_WRITTEN = re.compile(
    rf"\..*\.[0-9a-f]{{8}}({re.escape(UNFINISHED)}(\.\w+)?|\.(safetensors|toml|json|csv|png|npy|md))"
)


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write bytes, UTF-8 text, or whatever a function writes to the path it is given.

    Raises:
        StudyError: The disk is full, the folder cannot be written, or the text holds what UTF-8 cannot, such as the
            name of a file that is no text; what was there before still is.
    """
    temporary = _beside(path, path.suffix)
    if isinstance(content, str):
        try:
            content = content.encode()
        except UnicodeEncodeError as error:
            odd = content[max(error.start - 20, 0) : error.end + 20]
            todo = "Give files and folders names of UTF-8."
            raise StudyError(f"file {path}", "what is written into it is text", repr(odd), todo) from None
    try:
        try:
            _put(temporary, path, content)
        except FileNotFoundError:  # a run has just removed it, as it does with what killed ones left
            _put(temporary, path, content)
    except OSError as error:
        todo = "Everything finished before is safe; make room or give another folder, then resume."
        raise StudyError(f"file {path}", "it can be written", error.strerror or error, todo) from None
    finally:
        with contextlib.suppress(OSError):  # what could not be written cannot be removed either
            temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path, content: bytes | Callable[[Path], None]) -> None:
    if callable(content):
        content(temporary)
    else:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and prove that a file can be written in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _beside(path / "probe", "")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        todo = "Choose another with --studies-dir or --out."
        raise StudyError(f"folder {path}", "it can be created and written", error.strerror or error, todo) from None


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left half written in a folder, if there is one; what cannot be removed stays."""
    for left in folder.glob(".*") if folder.is_dir() else ():
        if not _HALF_WRITTEN.fullmatch(left.name):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def is_there(path: Path) -> bool:
    """Whether a file or folder exists; of a name that none can have, it does not."""
    try:
        return path.exists()
    except OSError:
        return False


def _beside(path: Path, suffix: str) -> Path:
    """A new name in the folder of a path; it is short enough wherever the path's own is."""
    return path.with_name(f".{path.name[:LETTERS]}.{uuid.uuid4().hex[:8]}{UNFINISHED}{suffix}")


@contextlib.contextmanager
def whole_folder(out: Path, last: str) -> Iterator[Path]:
    """A new folder beside `out` to write into, which becomes `out` in the end; after an error nothing of it is left.

    Where `out` is there already, files are moved into it, `last` as the last of them: who finds that one finds all.
    What a killed process left of one for `out` is removed.

    Raises:
        StudyError: `out` cannot be written.
    """
    try:
        make_folder(out if is_there(out) else out.parent)
    except StudyError as error:
        raise StudyError(f"folder {out}", error.rule, error.got, error.todo) from None
    for left in out.parent.glob(f".{glob.escape(out.name[:LETTERS])}.*{UNFINISHED}"):
        shutil.rmtree(left, ignore_errors=True)
    folder = _beside(out, "")
    try:
        make_folder(folder)
        yield folder
        try:
            if is_there(out):
                for file in sorted(folder.iterdir(), key=lambda path: path.name == last):
                    file.replace(out / file.name)
            else:
                folder.rename(out)
        except OSError as error:
            todo = "Choose another with --out."
            raise StudyError(f"folder {out}", "it can be written", error.strerror or error, todo) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
