"""A small disk of its own that can be made full, and empty again: a tmpfs, which only root may mount."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 1 << 30  # bytes; nothing of it is taken before it is written
LEFT = (0, 0, 1 << 12, 1 << 16, 1 << 18)  # bytes that are left free: a line fits, or a checkpoint, or nothing
FILL = "zeros"
# How a run says in its one line that the disk was full, whatever it was writing.
SAID = "No space left on device"


class Disk:
    """One.

    Args:
        folder: Where it is mounted.
        draw: Decides how full it gets.
    """

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self._folder, self._draw = folder, draw

    def fill(self) -> None:
        """Take what is free, but for a few bytes."""
        left = self._draw.choice(LEFT)
        with (self._folder / FILL).open("wb") as file:
            while (free := self._free() - left) > 0:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
                except OSError:  # others were faster
                    continue

    def empty(self) -> None:
        (self._folder / FILL).unlink(missing_ok=True)

    def _free(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(folder: Path, draw: random.Random) -> Iterator[Disk | None]:
    """Mount one at a new folder; None where that is not allowed, and the folder is as any other."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "soak", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
        trouble = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        trouble = str(error)
    if trouble:
        print(f"No disk is ever full: none of its own can be mounted here ({trouble}).", file=sys.stderr)
        yield None
        return
    try:
        yield Disk(folder, draw)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # lazily: whatever still has a file open there


def met_it(code: int | None, said: str) -> bool:
    """Whether a run that ended by itself did so because its disk was full, and said so in one line."""
    errors = sum("utuning-search: error: " in line for line in said.splitlines())
    return code == 2 and SAID in said and "Traceback" not in said and errors == 1
