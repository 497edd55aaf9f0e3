"""What a study has tried so far: each trial parsed once, and what the trial flow asks of all of them at every event.

Only trials that are still on their way are read again, so that a question costs the same after 100 trials and after
10,000.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pareto import Archive
from utuning_search.search.trials import TrialRecord, read_trial, standing


@dataclass(frozen=True)
class Peer:
    """Another trial at the same rung.

    Attributes:
        measured: Gains (to be maximized) of the objectives that are measured at rungs.
        exact: Gains of the exact ones.
    """

    measured: tuple[float, ...]
    exact: tuple[float, ...]


class History:
    """A study's trials by number, and counts of them.

    Args:
        read: Gives Optuna's trials, all of them, in their order; they are not copied.
        batch: Images a step of the task.
        objectives: Of the study.
    """

    def __init__(self, read: Callable[[], Sequence[FrozenTrial]], batch: int, objectives: Objectives) -> None:
        self._read, self._batch, self._objectives = read, batch, objectives
        self._records: list[TrialRecord] = []
        self._attributes: list[dict[str, object]] = []
        self._open: set[int] = set()
        self._settled = self._epochs = self._lowest = 0
        self._indices: set[int] = set()
        self._outcomes: dict[str, int] = {}  # number of the trial that trained a key and settled it
        self._losses: Counter[str] = Counter()
        self._peers: dict[int, list[Peer]] = {}
        self._archive = Archive()

    def refresh(self) -> "History":
        """Read what is new; the same object."""
        trials = self._read()
        self._open.update(range(len(self._records), len(trials)))
        for number in sorted(self._open):
            self._take(number, trials[number])
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

    def outcome(self, key: str, before: int) -> TrialRecord | None:
        """The settled trial before number `before` that trained a design, if there is one."""
        number = self._outcomes.get(key)
        return None if number is None or number >= before else self._records[number]

    def in_training(self, key: str, before: int) -> bool:
        """Whether a trial before number `before` is training a design."""
        return any(r.key == key and r.state == "running" and r.number < before for r in self.unfinished)

    def losses(self, key: str) -> int:
        """How many workers a design took down."""
        return self._losses[key]

    def peers(self, epoch: int, but: int) -> list[Peer]:
        """Every other trial that was trained to a rung; `but` is the number of the one that asks, which still runs."""
        running = [self._peer(r, epoch) for r in self.unfinished if r.number != but]
        return [*self._peers.get(epoch, []), *(peer for peer in running if peer is not None)]

    @property
    def stale(self) -> int:
        """How many of the last trials in a row are of designs that were tried before them."""
        seen: set[str] = set()
        count = 0
        for record in self._records:
            if record.key and record.state not in ("interrupted", "oversized"):
                count = count + 1 if record.key in seen else 0
                seen.add(record.key)
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

    def peer_of(self, measured: Mapping[str, float], exact: Mapping[str, float]) -> Peer:
        """What is compared at a rung: by what is measured there, and by the exact objectives."""
        compared = (o for o in self._objectives.measured if o.name in measured)
        return Peer(
            tuple(o.gain(measured[o.name]) for o in compared),
            tuple(o.gain(exact[o.name]) for o in self._objectives.exact),
        )

    def _take(self, number: int, trial: FrozenTrial) -> None:
        record = read_trial(trial, self._batch, self._objectives)
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
        if record.state == "interrupted":
            self._losses[record.key] += bool(record.reason)
        index = self._index(record.number)
        if index is not None:
            self._indices.add(index)
        if record.settled and record.reused is None:
            self._outcomes[record.key] = min(self._outcomes.get(record.key, record.number), record.number)
        for epoch in record.measured:
            peer = self._peer(record, epoch)
            if peer is not None:
                self._peers.setdefault(epoch, []).append(peer)
        if standing(record, self._objectives):
            self._archive.add(record.number, self._objectives.gains([record.values])[0])

    def _peer(self, record: TrialRecord, epoch: int) -> Peer | None:
        if epoch not in record.measured or record.reused is not None or record.state == "interrupted":
            return None
        return self.peer_of(record.measured[epoch], record.values)

    def _index(self, number: int) -> int | None:
        attributes = self._attributes[number]
        index = attributes.get("index")
        return index if isinstance(index, int) and "interrupted" not in attributes else None
