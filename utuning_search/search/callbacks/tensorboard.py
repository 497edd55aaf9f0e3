"""TensorBoard: a run a trial, with its curve while it trains and its hyperparameters at its end.

    DIR/STUDY/trial-00007/events.out.tfevents.*
    DIR/STUDY/final-KEY-10-epochs-seed-0/events.out.tfevents.*

A run that is whole has an empty file `logged` beside its events, so that another run of the study leaves it alone. One
that is not, of a process that was killed, is written anew.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from utuning_search.common.errors import InputError
from utuning_search.common.extras import needs
from utuning_search.designs.spaces.domains import Value
from utuning_search.search.callbacks.base import FinalRecord
from utuning_search.search.callbacks.logger import Logger, final_name, fresh_name, reached
from utuning_search.search.trials import TrialRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOGGED, EVENTS = "logged", "events.out.tfevents.*"


class TensorBoardLogger(Logger):
    """Writes what `tensorboard --logdir DIR` shows."""

    kind: ClassVar[str] = "tensorboard"
    summary: ClassVar[str] = "event files in a folder: tensorboard=DIR"

    def __init__(self, place: str) -> None:
        super().__init__(place)
        with needs("tensorboard", str(self)):
            import torch.utils.tensorboard  # noqa: F401  # before anything begins
        got = "" if place else "none"
        try:
            if place and Path(place).exists() and not Path(place).is_dir():
                got = f"the file {place}"
        except OSError as error:  # of a name that no folder can have
            got = error.strerror or str(error)
        if got:
            raise InputError(str(self), "a folder is given", got, "For example: --log tensorboard=runs")
        self._folder = Path(place)
        self._writers: dict[int, SummaryWriter] = {}

    def open(self, study: str) -> None:
        self._folder = Path(self.place) / study

    def on_rung(self, trial: TrialRecord, epoch: int) -> None:
        if trial.number in self._writers:
            self._write(self._writers[trial.number], trial.measured[epoch], epoch)
            return
        self._writers[trial.number] = self._begun(_folder_of(trial))
        for earlier, values in sorted(trial.measured.items()):  # of a trial that goes on: nobody was told of those here
            self._write(self._writers[trial.number], values, earlier)

    def on_trial(self, trial: TrialRecord) -> None:
        folder = _folder_of(trial)
        if self._is_logged(folder):
            return
        writer = self._writers.pop(trial.number, None)
        if writer is None:
            writer = self._begun(folder)
            for epoch, values in sorted(trial.measured.items()):
                self._write(writer, values, epoch)
        last = max(trial.measured, default=0)
        about = {**self.chosen(trial), "state": trial.state, "reason": trial.reason}
        self._finish(writer, folder, about, trial.values, reached(trial), last)

    def on_final(self, final: FinalRecord) -> None:
        self._write_whole(final_name(final), final, "test")

    def on_remeasured(self, fresh: FinalRecord) -> None:
        self._write_whole(fresh_name(fresh), fresh, "validation")

    def _write_whole(self, name: str, final: FinalRecord, split: str) -> None:
        """A training that is told of at its end."""
        folder = name.replace(" ", "-")
        if self._is_logged(folder):
            return
        about: dict[str, Value] = {"key": final.key, "final": final.name, "design": str(final.design)}
        about |= {"seed": final.seed, "state": "complete" if final.values else "failed", "reason": final.reason}
        values = {f"{split}_{of}": value for of, value in final.values.items()}
        values["parameters"] = float(final.parameters)
        self._finish(self._begun(folder), folder, about, values, values, final.epochs)

    def on_end(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def _is_logged(self, folder: str) -> bool:
        return (self._folder / folder / LOGGED).exists()

    def _begun(self, folder: str) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        for left in (self._folder / folder).glob(EVENTS):
            left.unlink()
        return SummaryWriter(str(self._folder / folder))

    def _write(self, writer: "SummaryWriter", values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def _finish(
        self,
        writer: "SummaryWriter",
        folder: str,
        about: Mapping[str, Value],
        values: Mapping[str, float],
        new: Mapping[str, float],
        epoch: int,
    ) -> None:
        """Write the table of hyperparameters and values, and the points of what has no curve; then it is whole."""
        from torch.utils.tensorboard.summary import hparams

        events = cast(Any, writer.file_writer)  # torch types it by what it is before it is opened, None
        for summary in hparams(dict(about), dict(values)):
            events.add_summary(summary)
        self._write(writer, new, epoch)
        writer.close()
        (self._folder / folder / LOGGED).touch()


def _folder_of(trial: TrialRecord) -> str:
    return f"trial-{trial.number:05d}"
