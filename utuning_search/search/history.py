"""What a study has tried so far: each trial parsed once, and what the trial flow asks of all of them at every event.

Only trials that are still on their way are read again, so that a question costs the same after 100 trials and after
10,000.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from optuna.trial import FrozenTrial

from utuning_search.designs.design import Design
from utuning_search.search.objectives.base import Floats
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pareto import Archive
from utuning_search.search.trials import TrialRecord, read_trial, standing

UNPROVEN = "unproven"  # user attribute of a lost trial: its worker had trained nothing before
CHECKPOINT = "checkpoint"  # user attribute of a trial: the last epoch of which there is one


@dataclass(frozen=True)
class Peers:
    """Trials at one rung, as gains: all to be maximized.

    Attributes:
        measured: (trials, objectives that are measured at rungs).
        exact: (trials, exact objectives).
    """

    measured: Floats
    exact: Floats

    def __len__(self) -> int:
        return len(self.measured)


class _Table:
    """Rows that are added one at a time and read as one array."""

    def __init__(self, columns: int) -> None:
        self._rows, self._count = np.empty((16, columns)), 0

    def add(self, row: Sequence[float]) -> None:
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._count] = row
        self._count += 1

    def array(self, more: Sequence[Sequence[float]]) -> Floats:
        rows = self._rows[: self._count]
        return np.concatenate([rows, np.array(more)]) if more else rows


class History:
    """A study's trials by number, and counts of them.

    Args:
        read_all: Gives Optuna's trials, all of them, in their order; they are not copied.
        read_one: Gives the trial of a number.
        batch: Images a step of the task.
        objectives: Of the study.
        given_back: Numbers of failed trials that are tried again: they count as interrupted.
        one_by_one: Whether, once all were read, new trials are asked for by their number, for which `read_one` raises
            KeyError where there is none: a list of all takes the longer the more there are.
    """

    def __init__(
        self,
        read_all: Callable[[], Sequence[FrozenTrial]],
        read_one: Callable[[int], FrozenTrial],
        batch: int,
        objectives: Objectives,
        given_back: Collection[int] = (),
        *,
        one_by_one: bool = False,
    ) -> None:
        self._given_back, self._one_by_one = frozenset(given_back), one_by_one
        self._read_all, self._read_one, self._batch, self._objectives = read_all, read_one, batch, objectives
        self._records: list[TrialRecord] = []
        self._attributes: list[dict[str, object]] = []
        self._open: set[int] = set()
        self._settled = self._epochs = self._lowest = 0
        self._indices: dict[int, int] = {}  # number of the trial that has ended with an index
        self._outcomes: dict[str, int] = {}  # number of the trial that trained a key and settled it
        self._firsts: dict[str, int] = {}  # number of the first trial of a key
        self._losses: Counter[str] = Counter()
        self._lost: set[str] = set()  # keys at which any worker was lost
        self._again: dict[int, int] = {}  # number of the last trial by its index that is to be tried again as it was
        self._saved: set[str] = set()  # keys of which there were checkpoints
        self._peers: dict[int, tuple[_Table, _Table]] = {}
        self._archive = Archive()

    def refresh(self) -> "History":
        """Read what is new, of any process; the same object."""
        if self._one_by_one and self._records:
            self.look()
            with suppress(KeyError):
                while True:
                    number = len(self._records)
                    trial = self._read_one(number)
                    self._open.add(number)
                    self._take(number, trial)
            return self
        trials = self._read_all()
        self._open.update(range(len(self._records), len(trials)))
        for number in sorted(self._open):
            self._take(number, trials[number])
        return self

    def look(self, number: int = -1) -> "History":
        """Read what became of the trials that are known to be on their way; the same object.

        Args:
            number: Of a trial that was just made: it and those before it are read too.
        """
        self._open.update(range(len(self._records), number + 1))
        for known in sorted(self._open):
            self._take(known, self._read_one(known))
        return self

    @property
    def records(self) -> Sequence[TrialRecord]:
        """All trials, by number; not to be changed."""
        return self._records

    @property
    def unfinished(self) -> list[TrialRecord]:
        return [self._records[number] for number in sorted(self._open)]

    @property
    def settled(self) -> int:
        """How many trials have an outcome that counts."""
        return self._settled

    @property
    def epochs(self) -> int:
        """Trained in all."""
        return self._epochs + sum(r.epochs for r in self.unfinished)

    @property
    def front(self) -> list[TrialRecord]:
        """The non-dominated complete trials, the cheapest first."""
        cost, names = self._objectives.cost, self._objectives.names
        sign = -1 if cost.direction == "maximize" else 1
        best = [self._records[n] for n in self._archive.numbers]
        return sorted(best, key=lambda r: (sign * r.values[cost.name], *(r.values[n] for n in names), r.number))

    def free_index(self) -> int:
        """The lowest index that no trial has; interrupted ones give theirs back."""
        while self._lowest in self._indices:
            self._lowest += 1
        running = {self._index(number) for number in self._open}
        return next(i for i in itertools.count(self._lowest) if i not in self._indices and i not in running)

    def twins(self, number: int) -> list[int]:
        """Earlier trials that have the index of a trial on its way, too."""
        index = self._index(number)
        if index is None:  # it was given back meanwhile
            return []
        ended = [self._indices[index]] if index in self._indices else []
        return [*ended, *(n for n in sorted(self._open) if n < number and self._index(n) == index)]

    def owner(self, number: int) -> object:
        """Who began a trial."""
        return self._attributes[number].get("owner")

    def outcome(self, key: str, before: int) -> TrialRecord | None:
        """The settled trial before number `before` that trained a design, if there is one."""
        number = self._outcomes.get(key)
        return None if number is None or number >= before else self._records[number]

    def in_training(self, key: str, before: int) -> bool:
        """Whether a trial before number `before` is training a design."""
        return any(r.key == key and r.state == "running" and r.number < before for r in self.unfinished)

    def losses(self, key: str) -> int:
        """How many workers a design took down that had trained another one before."""
        return self._losses[key]

    def lost(self, key: str) -> bool:
        """Whether any worker was lost at a design, proven or not."""
        return key in self._lost

    def trained(self, but: str) -> Design | None:
        """The design that was trained last, to its end or until it was pruned, and has another key."""
        trained = (r for r in reversed(self._records) if r.state in ("complete", "pruned") and r.reused is None)
        return next((r.design for r in trained if r.key != but), None)

    def given_back(self, index: int) -> TrialRecord | None:
        """The trial that is to be tried again at an index as it was: it had failed, or it left a checkpoint."""
        number = self._again.get(index)
        return None if number is None else self._records[number]

    def saved(self, key: str) -> bool:
        """Whether there was a checkpoint of a design."""
        return key in self._saved

    def peers(self, epoch: int, but: int) -> Peers:
        """Every other trial that was trained to a rung; `but` is the number of the one that asks, which still runs."""
        others = [r for r in self.unfinished if r.number != but and self._is_peer(r, epoch)]
        running = [self.gains(r.measured[epoch], r.values) for r in others]
        measured, exact = self._tables(epoch)
        return Peers(measured.array([m for m, _ in running]), exact.array([e for _, e in running]))

    @property
    def stale(self) -> int:
        """How many of the last trials in a row are of designs that were tried before them."""
        count = 0
        for record in reversed(self._records):
            if record.key and record.state not in ("interrupted", "oversized"):
                if self._firsts.get(record.key) == record.number:
                    break
                count += 1
        return count

    @property
    def oversized(self) -> int:
        """How many of the last trials in a row were larger than the study allows."""
        count = 0
        for record in reversed(self._records):
            if record.state != "oversized":
                break
            count += 1
        return count

    def gains(self, measured: Mapping[str, float], exact: Mapping[str, float]) -> tuple[list[float], list[float]]:
        """A trial as its peers see it: gains of what is measured at rungs, and of the exact objectives."""
        at_rungs = (o for o in self._objectives.measured if o.at_rungs)
        return [o.gain(measured[o.name]) for o in at_rungs], [o.gain(exact[o.name]) for o in self._objectives.exact]

    def _take(self, number: int, trial: FrozenTrial) -> None:
        record = read_trial(trial, self._batch, self._objectives)
        if number in self._given_back:
            record = replace(record, state="interrupted", epochs=0, reused=None)
        if record.state in ("interrupted", "oversized"):
            if self._firsts.get(record.key) == number:  # it counts for nothing any more: the next one is the first
                del self._firsts[record.key]
        elif record.key:
            self._firsts[record.key] = min(self._firsts.get(record.key, number), number)
        if CHECKPOINT in trial.user_attrs:
            self._saved.add(record.key)
        if number == len(self._records):
            self._records.append(record)
            self._attributes.append(trial.user_attrs)
        else:
            self._records[number], self._attributes[number] = record, trial.user_attrs
        if trial.state.is_finished():
            self._open.remove(number)
            self._close(record)

    def _close(self, record: TrialRecord) -> None:
        """Count a trial that will not change any more."""
        self._settled += record.settled
        self._epochs += record.epochs
        if record.number in self._given_back:
            self._forgive(record)
        elif record.state == "interrupted" and record.reason:
            self._lost.add(record.key)
            self._losses[record.key] += UNPROVEN not in self._attributes[record.number]
        if record.state == "interrupted" and CHECKPOINT in self._attributes[record.number]:
            self._try_again(record.number)
        index = self._index(record.number)
        if index is not None:
            self._indices[index] = record.number
        if record.settled and record.reused is None:
            self._outcomes[record.key] = min(self._outcomes.get(record.key, record.number), record.number)
        for epoch in record.measured:
            if self._is_peer(record, epoch):
                for table, row in zip(
                    self._tables(epoch), self.gains(record.measured[epoch], record.values), strict=True
                ):
                    table.add(row)
        if standing(record, self._objectives):
            self._archive.add(record.number, self._objectives.gains([record.values])[0])

    def _forgive(self, record: TrialRecord) -> None:
        """A user says that a design was not to blame: nothing is held against it any more."""
        self._losses[record.key] = 0
        self._lost.discard(record.key)
        self._try_again(record.number)

    def _try_again(self, number: int) -> None:
        index = self._attributes[number].get("index")
        if isinstance(index, int):
            self._again[index] = number

    def _is_peer(self, record: TrialRecord, epoch: int) -> bool:
        return epoch in record.measured and record.reused is None and record.state != "interrupted"

    def _tables(self, epoch: int) -> tuple[_Table, _Table]:
        if epoch not in self._peers:
            at_rungs = sum(o.at_rungs for o in self._objectives.measured)
            self._peers[epoch] = _Table(at_rungs), _Table(len(self._objectives.exact))
        return self._peers[epoch]

    def _index(self, number: int) -> int | None:
        attributes = self._attributes[number]
        index = attributes.get("index")
        kept = "interrupted" not in attributes and number not in self._given_back
        return index if isinstance(index, int) and kept else None
