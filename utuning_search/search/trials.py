"""Trials as this package sees them: what is kept in an Optuna trial's user attributes, and read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from utuning_search.designs.design import Design
from utuning_search.search.pareto import front, hypervolume
from utuning_search.training.out_of_memory import note

RUNG, OVERSIZED = "rung:", "oversized"
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

    @property
    def settled(self) -> bool:
        """Whether it has an outcome that counts; an interrupted trial has none and is tried again, and an
        oversized one is no more than a proposal.
        """
        return self.state in ("complete", "pruned", "failed")

    def to_dict(self) -> dict[str, Any]:
        """The row of trials.csv."""
        return {
            "trial": self.number,
            "state": self.state,
            "key": self.key,
            "design": "" if self.design is None else str(self.design),
            "preset": self.preset,
            "parameters": self.parameters,
            "accuracy": self.accuracy,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 2),
            "reused": self.reused,
            "reason": self.reason,
            **{f"accuracy_epoch_{epoch}": value for epoch, value in sorted(self.rungs.items())},
        }


def read_trial(trial: FrozenTrial, batch: int) -> TrialRecord:
    """The record of an Optuna trial that this package made; `batch` is the images a step of its task."""
    attributes = trial.user_attrs
    rungs = {int(k.removeprefix(RUNG)): float(v) for k, v in attributes.items() if k.startswith(RUNG)}
    complete = trial.state == TrialState.COMPLETE
    # It may have been stopped between any two of its last writes; whatever stands counts for nothing.
    interrupted = bool(attributes.get("interrupted"))
    accuracy = float(trial.values[0]) if complete else rungs[max(rungs)] if rungs else None
    table, accumulation = attributes.get("design"), attributes.get("accumulation", 1)
    trained = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and not attributes.get(OVERSIZED)
    return TrialRecord(
        number=trial.number,
        state="interrupted" if interrupted else OVERSIZED if attributes.get(OVERSIZED) else STATES[trial.state],
        key=attributes.get("key", ""),
        design=None if table is None else Design.from_dict(table, f"trial {trial.number}"),
        preset=attributes.get("preset", ""),
        parameters=attributes.get("parameters", 0),
        accuracy=accuracy,
        epochs=0 if interrupted else attributes.get("epochs", 0),
        seconds=attributes.get("seconds", 0.0),
        rungs=rungs,
        reused=None if interrupted else attributes.get("reused"),
        reason=note(batch, accumulation) if trained else attributes.get("reason", ""),
        accumulation=accumulation,
    )


def front_of(records: list[TrialRecord]) -> list[TrialRecord]:
    """The non-dominated complete trials, by parameters ascending; of equal ones the earliest."""
    complete = [r for r in records if r.state == "complete" and r.accuracy is not None]
    return [complete[i] for i in front([r.accuracy or 0.0 for r in complete], [r.parameters for r in complete])]


def volume_of(best: list[TrialRecord], reference: int) -> float:
    """Hypervolume of a front in [0, 1]; `reference` is full fine-tuning's number of parameters."""
    return hypervolume([r.accuracy or 0 for r in best], [r.parameters for r in best], reference=reference)
