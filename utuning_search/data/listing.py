"""Which files of a folder are images, and of which class: each real file once, and nothing that would be waited for."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from utuning_search.common.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".jfif")
# Where archivers, file managers and network drives keep their own: forks of files, previews, what was thrown away.
_SYSTEM = "__macosx @eadir @tmp @recycle #recycle $recycle.bin lost+found @recently-snapshot"
SYSTEM = frozenset({*_SYSTEM.split(), "system volume information"})
RULE = "every class has a folder with images"


def class_folders(folder: Path, prefix: str = "") -> list[str]:
    """Names of the classes in a folder, sorted; `prefix` is the folder's name in the layout that a message shows.

    Raises:
        DataError: There are none, or one has a name that no file of text can hold.
    """
    try:
        found = sorted(e.name for e in os.scandir(folder) if is_folder(e) and not is_hidden(e.name))
        got = "no folder in it"
    except OSError as error:
        found, got = [], error.strerror or type(error).__name__
    if not found:
        raise DataError(f"image folder {folder}", RULE, got, f"Lay images out as {prefix}<class>/<image>.")
    for name in found:
        if not writable(name):
            todo = "Rename the folder: studies and exported tuners name their classes in files of UTF-8."
            shown = os.fsencode(name).decode("ascii", "backslashreplace")
            raise DataError(f"image folder {folder}", "names of classes are UTF-8", f"'{shown}'", todo)
    return found


def writable(name: str) -> bool:
    """Whether a file of UTF-8 can hold a name; bytes of a file system need not be any text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no user's: its name starts with a dot, or is one that systems take."""
    return name.startswith(".") or name.casefold() in SYSTEM


def is_image(name: str) -> bool:
    """Whether a file's name is one of an image; hidden files are none."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def images_below(folder: Path) -> list[Path]:
    """Image files of one class, those in folders below included, in an order that is the same everywhere."""
    return [path for path in files_below(folder) if is_image(path.name)]


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and in those below it, but for hidden ones, folder by folder in the order of their paths.

    Links are followed, to each real file and folder once: those to a folder above, or in a circle, end. Pipes, sockets
    and devices are left out. A link to nothing is a file, which cannot be read.

    Returns:
        None where there is no such folder.

    Raises:
        DataError: A folder cannot be listed.
    """
    by_parent = sorted(_folders_below(folder), key=lambda found: found[0]) if folder.is_dir() else []
    seen: set[tuple[int, int]] = set()
    repeated: set[str] = set()
    # Real files first: what is there both as a file and as a link to it goes by its own name.
    for linked in (False, True):
        for _, device, entries in by_parent:
            for entry in entries:
                if entry.is_symlink() == linked:
                    identity = _identity(entry.path) if linked else (device, entry.inode())
                    if identity in seen:
                        repeated.add(entry.path)
                    elif identity is not None:
                        seen.add(identity)
    return [Path(e.path) for _, _, entries in by_parent for e in entries if e.path not in repeated]


def _folders_below(folder: Path) -> Iterator[tuple[str, int, list[os.DirEntry[str]]]]:
    """Path, device and files of a folder and of each below it, once; real ones before linked ones."""
    seen = {_identity(parent) for parent in (*folder.absolute().parents, *folder.resolve().parents)}
    waiting, links = [str(folder)], deque[str]()
    while waiting or links:
        parent = waiting.pop() if waiting else links.popleft()
        identity = _identity(parent)
        if identity in seen:
            continue
        seen.add(identity)
        entries = []
        for entry in _listed(parent):
            if not is_folder(entry):
                entries += [entry] if _is_read(entry) else []
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                waiting.append(entry.path)
        yield parent, identity[0] if identity else 0, entries


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or leads to one; a link to itself leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not is_hidden(e.name)), key=lambda e: e.name)
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise DataError(f"image folder {folder}", "it can be listed", got, "Change its rights, or remove it.") from None


def _is_read(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to nothing, rather than a pipe, a socket or a device."""
    if not entry.is_symlink():
        return entry.is_file()
    path = Path(entry.path)
    return path.is_file() or not path.exists()


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Device and inode of what a path leads to; None where that is nothing."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
