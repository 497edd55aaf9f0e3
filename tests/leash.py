"""A test run that is killed leaves no process behind: what would not end by itself is on a leash."""

import multiprocessing
import os
import subprocess
import sys
import threading

# Reads until whoever holds the other end lets go of it, and ends the group unless it was told that all is well.
_WATCHER = "import os, sys\nif not sys.stdin.buffer.read(): os.killpg(int(sys.argv[1]), 9)"


class Leash:
    """Kills a process group once this process has ended, however it ended; `off` takes it off.

    Args:
        group: Of processes, as `start_new_session` makes one.
    """

    def __init__(self, group: int) -> None:
        # In a session of its own: what strikes this process strikes the watcher neither.
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCHER, str(group)], stdin=subprocess.PIPE, start_new_session=True
        )

    def off(self) -> None:
        """The group has ended, or is not ours any more."""
        self._watcher.communicate(b"well")


def end_with_parent() -> None:
    """Called in a process of `multiprocessing`'s, it ends that at once when its parent has ended."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
