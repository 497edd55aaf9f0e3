"""When a study ends: at a limit and not before it, with what is on its way counted."""

from dataclasses import dataclass
from typing import Any

import pytest

from utuning_search.search.budget import HOPELESS, STALE, Budget, spent

EPOCHS = 10  # that a trial trains at most


@dataclass
class Past:
    """What of a history counts."""

    settled: int = 0
    epochs: int = 0
    stale: int = 0
    oversized: int = 0


ENDLESS = Budget(trials=None)


@pytest.mark.parametrize(
    ("budget", "past", "elapsed", "running"),
    [
        (Budget(trials=8), Past(settled=8), 0.0, 0),
        (Budget(trials=8), Past(settled=6), 0.0, 2),
        (Budget(trials=None, epochs=100), Past(epochs=100), 0.0, 0),
        (Budget(trials=None, epochs=100), Past(epochs=80), 0.0, 2),
        (Budget(trials=None, seconds=60.0), Past(), 60.0, 0),
        (Budget(trials=8, epochs=100, seconds=60.0), Past(epochs=100), 0.0, 0),
        (Budget(trials=8, epochs=100, seconds=60.0), Past(), 60.0, 0),
        (ENDLESS, Past(stale=STALE), 0.0, 0),
        (ENDLESS, Past(oversized=HOPELESS), 0.0, 0),
        (Budget(trials=8), Past(oversized=HOPELESS), 0.0, 0),
    ],
)
def test_a_study_ends_at_its_limit_and_not_before(budget: Budget, past: Any, elapsed: float, running: int) -> None:
    assert spent(past, budget, elapsed, running, EPOCHS)
    for name in ("settled", "epochs", "stale", "oversized"):
        if getattr(past, name):
            setattr(past, name, getattr(past, name) - 1)
            assert not spent(past, budget, max(elapsed - 1, 0), running, EPOCHS)
    assert not spent(past, budget, max(elapsed - 1, 0), running, EPOCHS)


def test_limits_that_are_not_given_do_not_count() -> None:
    past: Any = Past(settled=10_000, epochs=10_000)
    assert not spent(past, ENDLESS, 1e9, 4, EPOCHS)
    past = Past(stale=STALE)
    assert not spent(past, Budget(trials=8), 0.0, 0, EPOCHS), "with a limit of trials it goes on"
