"""What killed processes leave of files that `files.write_atomically` was writing."""

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\.(?P<stem>.*)\.[0-9a-f]{8}(?P<suffix>(\.\w+)?)")  # see `files.write_atomically`


def leftovers(folder: Path, of: Collection[str] | None = None) -> list[Path]:
    """Temporary files that lie directly in a folder, which need not be there.

    Args:
        folder: Where to look.
        of: Names of the files that were to be written; None for any.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _TEMPORARY.fullmatch(path.name)
        if match and path.is_file() and (of is None or match["stem"] + match["suffix"] in of):
            found.append(path)
    return found


def remove_leftovers(folder: Path, of: Collection[str] | None = None) -> None:
    """Remove those of files that nobody writes any more: the caller has to be the only one who writes them."""
    for path in leftovers(folder, of):
        with suppress(OSError):  # what cannot be removed is in nobody's way
            path.unlink()
