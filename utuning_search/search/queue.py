"""Work of a study that any of its machines may do, each piece once: a queue in the storage that they share.

It is a study of Optuna's beside the search's own, NAME/finals, whose enqueued trials are the pieces; whoever sets one
from waiting to running has it. Owners give signs of life as those of trials do.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from utuning_search.search.leases import Leases
from utuning_search.search.patience import patient

SUFFIX = "/finals"  # of the study beside; no study of ours has a slash in its name
PIECE, TRIES, REASON, OWNER = "piece", "tries", "reason", "owner"  # user attributes of its trials
NAME = "name"  # in a piece
MOST_TRIES = 3  # of a piece, after which it is not tried again
UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Claim:
    """A piece that this process has.

    Attributes:
        number: In the queue.
        name: Of the piece, which tells it from others.
        piece: What is to be done, as it was put.
        tries: How often it was tried before.
    """

    number: int
    name: str
    piece: Mapping[str, Any]
    tries: int


class Queue:
    """The queue of one study.

    Args:
        storage: Of the study, in a database.
        study: Its name.
        owner: Marks what this process has.
    """

    def __init__(self, storage: BaseStorage, study: str, owner: str) -> None:
        self._storage = storage
        self._study = optuna.create_study(study_name=study + SUFFIX, storage=storage, load_if_exists=True)
        self._id = storage.get_study_id_from_name(study + SUFFIX)
        self.leases = Leases(self._study, storage, owner)

    @staticmethod
    def exists(storage: BaseStorage, study: str) -> bool:
        """Whether anything was ever put into a study's queue."""
        with suppress(KeyError):
            storage.get_study_id_from_name(study + SUFFIX)
            return True
        return False

    def put(self, pieces: Mapping[str, Mapping[str, Any]], *, again: bool = False) -> None:
        """Add pieces by name; not those that wait already, or that somebody has.

        Those that were tried too often are added `again` only.
        """
        served = patient(self._storage)
        while True:
            with served.turn(self._id) if served is not None else nullcontext(True) as ours:
                if ours:  # of two that add the same the second one sees it
                    last = self._last()
                    for name in sorted(n for n in pieces if n not in last or last[n].state not in UNFINISHED):
                        tries = last[name].user_attrs[TRIES] if name in last else 0
                        if tries < MOST_TRIES or again:
                            self._add(name, pieces[name], tries % MOST_TRIES)
                    return

    def claim(self, wanted: Callable[[Mapping[str, Any]], bool]) -> Claim | None:
        """A piece that waits, for this process alone, of those that are `wanted`."""
        for trial in self._trials((TrialState.WAITING,)):
            piece = trial.user_attrs[PIECE]
            if wanted(piece):
                with suppress(UpdateFinishedTrialError):
                    if self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                        self._storage.set_trial_user_attr(trial._trial_id, OWNER, self.leases.owner)
                        return Claim(trial.number, _name(trial), piece, trial.user_attrs[TRIES])
        return None

    def done(self, claim: Claim) -> None:
        """A piece is done, and what it gave is where all find it."""
        with suppress(UpdateFinishedTrialError):  # another process took this one for dead
            self._end(claim.number, TrialState.COMPLETE)

    def give_back(self, claim: Claim, reason: str = "") -> None:
        """A piece was not done: another may try it, unless it was `reason` of too many that it was not."""
        self._again(claim.number, claim.name, claim.piece, claim.tries + bool(reason), reason)

    def reap(self) -> None:
        """Give back what owners have that give no sign of life any more; to be called often."""
        for number in self.leases.lapsed():
            trial = self._storage.get_trial(self._trial_id(number))
            if PIECE in trial.user_attrs:
                tries = trial.user_attrs[TRIES] + 1
                self._again(number, _name(trial), trial.user_attrs[PIECE], tries, "its machine fell silent")

    def unfinished(self) -> list[Mapping[str, Any]]:
        """Pieces that wait or that somebody has."""
        return [t.user_attrs[PIECE] for t in self._trials(UNFINISHED)]

    def failed(self) -> dict[str, str]:
        """Why pieces are not tried again, by name."""
        ended = (t for t in self._last().values() if t.state == TrialState.FAIL)
        return {_name(t): t.user_attrs[REASON] for t in ended if t.user_attrs[TRIES] >= MOST_TRIES}

    def _again(self, number: int, name: str, piece: Mapping[str, Any], tries: int, reason: str) -> None:
        with suppress(UpdateFinishedTrialError):  # another process was faster
            self._storage.set_trial_user_attr(self._trial_id(number), TRIES, tries)
            self._storage.set_trial_user_attr(self._trial_id(number), REASON, reason)
            self._end(number, TrialState.FAIL)
            if tries < MOST_TRIES:
                self.put({name: piece})

    def _add(self, name: str, piece: Mapping[str, Any], tries: int) -> None:
        attributes = {PIECE: {**piece, NAME: name}, TRIES: tries}
        made = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attributes)
        self._storage.create_new_trial(self._id, made)

    def _last(self) -> dict[str, FrozenTrial]:
        """The last trial of each piece, by name."""
        return {_name(t): t for t in self._trials(None)}

    def _end(self, number: int, state: TrialState) -> None:
        values = [0.0] if state == TrialState.COMPLETE else None  # each complete trial of Optuna's has one
        self._storage.set_trial_state_values(self._trial_id(number), state, values)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _trials(self, states: tuple[TrialState, ...] | None) -> list[FrozenTrial]:
        found = self._storage.get_all_trials(self._id, deepcopy=False, states=states)
        return [t for t in found if PIECE in t.user_attrs]


def _name(trial: FrozenTrial) -> str:
    return str(trial.user_attrs[PIECE][NAME])
