"""Checkpoints of a study's trials: in its folder, and in its artifact store where it has one.

By the key of the design, not by trial: a training is a function of (spec, design), so that any trial of the design, on
any machine that can read the file, goes on from it.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from utuning_search.common.files import make_folder, write_atomically
from utuning_search.search.artifacts import Artifacts
from utuning_search.search.layout import CHECKPOINTS
from utuning_search.training.checkpoint import Checkpoint

SUFFIX = ".safetensors"


class Checkpoints:
    """Those of one study.

    Args:
        folder: Of the study.
        name: Of the study, in an artifact store.
        artifacts: Its store; None without one.
    """

    def __init__(self, folder: Path, name: str, artifacts: Artifacts | None) -> None:
        self._folder, self._name, self._artifacts = folder / CHECKPOINTS, name, artifacts

    def file(self, key: str) -> Path:
        """Where the checkpoint of a design lies here, if there is one."""
        return self._folder / f"{key}{SUFFIX}"

    def keep(self, key: str, checkpoint: Checkpoint) -> None:
        """Write it, in the place of an earlier one.

        Raises:
            StudyError: It cannot be written.
        """
        make_folder(self._folder)
        write_atomically(self.file(key), checkpoint.content)
        if self._artifacts is not None:
            self._artifacts.put(self._named(key), checkpoint.content)

    def find(self, key: str) -> Checkpoint | None:
        """The checkpoint of a design, which lies in its file then; None where none can be read from here.

        Raises:
            StudyError: The store cannot be read.
        """
        if self._artifacts is not None:  # what another machine wrote is as late as what is here, or later
            content = self._artifacts.get(self._named(key))
            if content is not None:
                make_folder(self._folder)
                write_atomically(self.file(key), content)
        try:
            return Checkpoint.read(self.file(key).read_bytes())
        except OSError:
            return None

    def remove(self, key: str) -> None:
        """Nobody goes on from it any more."""
        with suppress(OSError):
            self.file(key).unlink(missing_ok=True)
        if self._artifacts is not None:
            self._artifacts.remove(self._named(key))

    def sweep(self, settled: Callable[[str], bool]) -> None:
        """Remove what lies here of designs that are settled: others may have trained them to the end."""
        for file in self._folder.glob(f"*{SUFFIX}"):
            if not file.name.startswith(".") and settled(file.stem):
                with suppress(OSError):
                    file.unlink()

    def _named(self, key: str) -> str:
        return f"{self._name}.{key}{SUFFIX}"
