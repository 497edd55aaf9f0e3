"""Trials as this package sees them: what is kept in an Optuna trial's user attributes, and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from utuning_search.common.errors import StudyError
from utuning_search.designs.design import Design
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pareto import front, hypervolume
from utuning_search.training.out_of_memory import note

RUNG, MEASURED, OVERSIZED = "rung:", "measured:", "oversized"
# What a trial's attributes hold, by name; besides them `exact` and `final`, numbers by name, and what rungs measured.
TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("owner", "key", "preset", "reason"), str),
    **dict.fromkeys(("parameters", "index", "epochs", "reused", "accumulation", "checkpoint"), int),
    "seconds": (int, float),
    "design": dict,
    "interrupted": bool,
    OVERSIZED: bool,
}
SHOWN = 60  # characters of an attribute that an error names
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: Optuna's, from 0.
        state: "complete", "pruned", "failed", "running", "waiting", "interrupted", or "oversized": its design is
            larger than the study allows, and was not trained.
        key: The design's.
        design: What was trained; None only while waiting.
        preset: Name of the known method it is, or empty.
        parameters: Trainable, head included.
        accuracy: On validation, in [0, 1]; of the last rung where the trial was pruned, None without any.
        epochs: Trained by this trial; 0 where its values were reused or it was interrupted.
        seconds: Training and measuring.
        rungs: Accuracy by epoch.
        reused: Number of the trial that trained this design before, or None.
        reason: Why it failed, or that memory was short; or empty.
        accumulation: In how many parts a batch was taken, because it did not fit into memory.
        values: The study's objectives by name: the exact ones in any case, the measured ones of the end, or of the
            last rung where the trial was pruned. Accuracy and parameters unless given.
        measured: What was measured by name at each rung, by epoch.
    """

    number: int
    state: str
    key: str
    design: Design | None
    preset: str
    parameters: int
    accuracy: float | None
    epochs: int
    seconds: float
    rungs: Mapping[int, float]
    reused: int | None
    reason: str
    accumulation: int = 1
    values: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            known = {} if self.accuracy is None else {"accuracy": self.accuracy}
            object.__setattr__(self, "values", {**known, "parameters": float(self.parameters)})

    @property
    def settled(self) -> bool:
        """Whether it has an outcome that counts; an interrupted trial has none and is tried again, and an
        oversized one is no more than a proposal.
        """
        return self.state in ("complete", "pruned", "failed")

    def to_dict(self) -> dict[str, Any]:
        """The row of trials.csv."""
        others = {n: v for n, v in self.values.items() if n not in ("accuracy", "parameters")}
        return {
            "trial": self.number,
            "state": self.state,
            "key": self.key,
            "design": "" if self.design is None else str(self.design),
            "preset": self.preset,
            "parameters": self.parameters,
            "accuracy": self.accuracy,
            **others,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 2),
            "reused": self.reused,
            "reason": self.reason,
            **{f"accuracy_epoch_{epoch}": value for epoch, value in sorted(self.rungs.items())},
        }


def read_trial(trial: FrozenTrial, batch: int, objectives: Objectives = USUAL) -> TrialRecord:
    """The record of an Optuna trial that this package made; `batch` is the images a step of its task.

    Raises:
        StudyError: Something was kept of it that this package does not write.
    """
    where, rule = f"trial {trial.number}", "its attributes are as utuning-search writes them"
    todo = "Put the storage back from a copy, or start a new study."
    for name, value in trial.user_attrs.items():
        if not _is_of_its_type(name, value):
            raise StudyError(where, rule, f"{name} = {str(value)[:SHOWN]!r}", todo)
    try:
        return _read_trial(trial, batch, objectives)
    # Of a design InputErrors, and OverflowErrors of numbers that are too large for a float.
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise StudyError(where, rule, f"{type(error).__name__}: {error}", todo) from None


def _is_of_its_type(name: str, value: object) -> bool:
    """Whether an attribute holds what is written by its name; others may hold what they like."""
    if name.startswith((RUNG, MEASURED)):
        return _is_number(value)
    if name in ("exact", "final"):
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    known = TYPES.get(name)
    return known is None or (isinstance(value, known) and (known is bool or not isinstance(value, bool)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read_trial(trial: FrozenTrial, batch: int, objectives: Objectives) -> TrialRecord:
    attributes = trial.user_attrs
    measured = _measured(attributes)
    rungs = {epoch: values["accuracy"] for epoch, values in measured.items() if "accuracy" in values}
    complete = trial.state == TrialState.COMPLETE
    parameters = attributes.get("parameters", 0)
    values: dict[str, float] = {"parameters": float(parameters), **attributes.get("exact", {})}
    values = {**values, **(measured[max(measured)] if measured else {})}
    if complete:
        values |= {**dict(zip(objectives.names, map(float, trial.values), strict=True)), **attributes.get("final", {})}
    # It may have been stopped between any two of its last writes; whatever stands counts for nothing.
    interrupted = bool(attributes.get("interrupted"))
    table, accumulation = attributes.get("design"), attributes.get("accumulation", 1)
    trained = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and not attributes.get(OVERSIZED)
    return TrialRecord(
        number=trial.number,
        state="interrupted" if interrupted else OVERSIZED if attributes.get(OVERSIZED) else STATES[trial.state],
        key=attributes.get("key", ""),
        design=None if table is None else Design.from_dict(table, f"trial {trial.number}"),
        preset=attributes.get("preset", ""),
        parameters=parameters,
        accuracy=values.get("accuracy"),
        epochs=0 if interrupted else attributes.get("epochs", 0),
        seconds=attributes.get("seconds", 0.0),
        rungs=rungs,
        reused=None if interrupted else attributes.get("reused"),
        reason=note(batch, accumulation) if trained else attributes.get("reason", ""),
        accumulation=accumulation,
        values={name: values[name] for name in objectives.names if name in values},
        measured=measured,
    )


def rung_attributes(epoch: int, values: Mapping[str, float]) -> dict[str, float]:
    """User attributes that keep what was measured at a rung; accuracy where older versions look for it."""
    names = {name: f"{RUNG}{epoch}" if name == "accuracy" else f"{MEASURED}{epoch}:{name}" for name in values}
    return {names[name]: value for name, value in values.items()}


def _measured(attributes: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for key, value in attributes.items():
        if key.startswith(RUNG):
            found.setdefault(int(key.removeprefix(RUNG)), {})["accuracy"] = float(value)
        elif key.startswith(MEASURED):
            _, epoch, name = key.split(":", 2)
            found.setdefault(int(epoch), {})[name] = float(value)
    return found


def standing(record: TrialRecord, objectives: Objectives) -> bool:
    """Whether a trial has what it takes to stand on a front: it is complete, with a value of every objective."""
    return record.state == "complete" and all(name in record.values for name in objectives.names)


def front_of(records: Sequence[TrialRecord], objectives: Objectives = USUAL) -> list[TrialRecord]:
    """The non-dominated complete trials, by cost ascending (parameters, by default); of equal ones the earliest."""
    complete = [r for r in records if standing(r, objectives)]
    cost = objectives.names.index(objectives.cost.name)
    return [complete[i] for i in front(objectives.gains([r.values for r in complete]), cost)]


def volume_of(best: Sequence[TrialRecord], objectives: Objectives, setting: Setting) -> float:
    """Hypervolume of a front in [0, 1]; see `Objective.bounds`."""
    return hypervolume(objectives.goodness([r.values for r in best], setting))
