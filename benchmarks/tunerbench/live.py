"""Trainings that are looked up where they are known, and made and kept where they are not."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunerbench.tasks import TASKS
from utuning_search.common.errors import TrainingError
from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.training.proxy import ProxyTrainer, Report
from utuning_search.training.runtime import Runtime

Curve = Mapping[int, float]  # validation accuracy by epoch
ENDED = 0  # stands in a curve instead of epochs that were not reached because the loss became infinite


class Curves:
    """Learning curves of one task by design, as far as they were ever needed.

    Args:
        task: Of `TASKS`.
        cache: A file of one JSON object a line, made if need be, which several processes may add to.
        known: Curves by key that need no training.
        data_dir: Where the task's images are.
    """

    def __init__(
        self, task: str, cache: Path, known: Mapping[str, Curve] | None = None, data_dir: str | None = None
    ) -> None:
        self.task, self._cache, self._data_dir = TASKS[task], cache, data_dir
        self._known: dict[str, Curve] = dict(known or {})
        self._read = 0
        self._trainer: ProxyTrainer | None = None
        self.trained = 0

    @property
    def epochs(self) -> tuple[int, ...]:
        """After which designs are measured, the last one included."""
        return (*self.task.recipe.rungs, self.task.recipe.epochs)

    def of(self, design: Design, repeat: int = 0) -> Curve:
        """The whole curve of a resolved design; `repeat` tells trainings of other seeds apart."""
        return dict(self.walk(design, repeat))

    def walk(self, design: Design, repeat: int = 0) -> Iterator[tuple[int, float]]:
        """Epochs and accuracies one after another; who stops early leaves the rest untrained.

        It ends early where the loss becomes infinite: nothing is known after that.
        """
        name = f"{design.key}.{repeat}" if repeat else design.key
        if name not in self._known:
            self._refresh()
        curve = dict(self._known.get(name, {}))
        yield from curve.items()
        if self.epochs[-1] in curve or ENDED in curve:
            return
        told, found = len(curve), {}
        try:
            for item in self._train(design, derive_seed(repeat, f"training {design.key}")):
                found[item.epoch] = item.accuracy
                if len(found) > told:
                    yield item.epoch, item.accuracy
        except TrainingError:
            found[ENDED] = 0.0
        finally:
            if len(found) > told:
                self._keep(name, design, found)

    def _train(self, design: Design, seed: int) -> Iterator[Report]:
        if self._trainer is None:
            self._trainer = ProxyTrainer(self.task, Runtime(data_dir=self._data_dir))
        self.trained += 1
        for item in self._trainer.evaluate(design, seed):
            if isinstance(item, Report):
                yield item
                if item.epoch == self.task.recipe.epochs:
                    return  # the final measurement would give the same accuracy once more

    def _keep(self, name: str, design: Design, curve: dict[int, float]) -> None:
        self._known[name] = curve
        row: dict[str, Any] = {"task": self.task.name, "key": name, "design": design.to_dict(), "curve": curve}
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        with self._cache.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(row) + "\n")
            file.flush()

    def _refresh(self) -> None:
        """Read what other processes added."""
        if not self._cache.exists():
            return
        with self._cache.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    row = json.loads(line)
                    curve = {int(e): a for e, a in row["curve"].items()}
                    if row["task"] == self.task.name and len(curve) > len(self._known.get(row["key"], {})):
                        self._known[row["key"]] = curve
