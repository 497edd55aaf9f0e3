"""Pareto-aware pruning in an Optuna study of one's own, where some objectives are known before a trial begins.

Optuna's `Trial.report` and `should_prune` refuse studies of several objectives, so rungs are kept as user attributes
of the trial. They are no intermediate values: Optuna's TPE cannot take those in such a study. A door to optuna.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from utuning_search.common.errors import InputError
from utuning_search.search.history import Peers
from utuning_search.search.pruners.pareto import ParetoPruner

KNOWN, RUNG = "pareto:known", "pareto:rung:"  # user attributes: values in the order of the study's directions
STATES = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


class ParetoRungs:
    """The rungs of one trial, and whether it is worth going on.

    def objective(trial):
        width = trial.suggest_int("width", 1, 64)
        rungs = ParetoRungs(trial, {1: size_of(width)})  # the second objective, known ahead
        for epoch in range(1, 11):
            accuracy = train_an_epoch(width)
            if rungs.report(epoch, accuracy):
                raise optuna.TrialPruned
        return accuracy, size_of(width)

    study = optuna.create_study(directions=["maximize", "minimize"])
    study.optimize(objective, n_trials=50)

    Args:
        trial: Of a study that optimizes, in this or in several processes.
        known: The objectives that are known already, by their position in the study's directions.
        pruner: How many trials have to be ahead; see `ParetoPruner`.

    Raises:
        InputError: No objective is known, or all are, or there is none of such a position.
    """

    def __init__(self, trial: Trial, known: Mapping[int, float], pruner: ParetoPruner = ParetoPruner()) -> None:
        directions = trial.study.directions
        positions = range(len(directions))
        if not known or not set(known) < set(positions):
            rule = f"known has some of the positions {list(positions)} of the study's objectives, and not all of them"
            raise InputError("ParetoRungs", rule, sorted(known))
        self._trial, self._pruner = trial, pruner
        self._signs = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions])
        self._exact = sorted(known)
        self._measured = [i for i in positions if i not in known]
        trial.set_user_attr(KNOWN, [float(known[i]) for i in self._exact])

    def report(self, step: int, values: float | Sequence[float]) -> bool:
        """Keep what was measured at a step; whether to stop here, by raising `optuna.TrialPruned`.

        Args:
            step: From 0; trials are compared with others at the same one.
            values: Of the objectives that are not known ahead, in the order of the study's directions.

        Raises:
            InputError: Values are too many or too few.
        """
        measured = [float(v) for v in (values if isinstance(values, Sequence) else [values])]
        if len(measured) != len(self._measured):
            raise InputError("ParetoRungs.report", f"it gets {len(self._measured)} values", len(measured))
        self._trial.set_user_attr(f"{RUNG}{step}", measured)
        known = self._trial.user_attrs[KNOWN]
        others = self._trial.study.get_trials(deepcopy=False, states=STATES)
        peers = [t.user_attrs for t in others if self._is_peer(t, step)]
        return self._pruner.outnumbered(
            self._peers([(measured, known)]), self._peers([(a[f"{RUNG}{step}"], a[KNOWN]) for a in peers])
        )

    def _is_peer(self, other: FrozenTrial, step: int) -> bool:
        kept = other.user_attrs
        alike = len(kept.get(KNOWN, ())) == len(self._exact)
        return other.number != self._trial.number and alike and f"{RUNG}{step}" in kept

    def _peers(self, rows: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Peers:
        """Rows of measured and known values, as gains."""
        measured = np.array([m for m, _ in rows]).reshape(len(rows), len(self._measured))
        exact = np.array([e for _, e in rows]).reshape(len(rows), len(self._exact))
        return Peers(measured * self._signs[self._measured], exact * self._signs[self._exact])
