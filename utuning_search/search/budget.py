"""When a study ends."""

from dataclasses import dataclass

from utuning_search.search.defaults import TRIALS
from utuning_search.search.history import History

HOPELESS = 300  # proposals in a row that are larger than the study allows: the space has no others worth a wait
STALE = 50  # a space of five designs has been tried as a whole by then but once in thousands of studies


@dataclass(frozen=True)
class Budget:
    """When to stop starting trials; the first limit reached counts, and running trials still end.

    Reused trials train no epochs and take no time, so in a small space limits of those alone might never be
    reached. Designs larger than the study allows do not count, but 300 of them in a row end the run. Without a
    limit of trials, a study therefore ends too once the last 50 trials in a row are all of
    designs that were tried before: a rule about its history, so that a resumed study ends at the same trial. It
    then goes on with a limit of trials only.

    Attributes:
        trials: Settled trials in the whole study; None for no limit.
        epochs: Trained in the whole study.
        seconds: Of this run.
    """

    trials: int | None = TRIALS
    epochs: int | None = None
    seconds: float | None = None


def spent(history: History, budget: Budget, elapsed: float, running: int, epochs: int) -> bool:
    """Whether no trial may start any more.

    Args:
        history: What was tried.
        budget: When to stop.
        elapsed: Seconds of this run.
        running: Trials on their way.
        epochs: That a trial trains at most.
    """
    return (
        (budget.trials is not None and history.settled + running >= budget.trials)
        or (budget.epochs is not None and history.epochs + running * epochs >= budget.epochs)
        or (budget.seconds is not None and elapsed >= budget.seconds)
        or (budget.trials is None and history.stale >= STALE)
        or history.oversized >= HOPELESS
    )
