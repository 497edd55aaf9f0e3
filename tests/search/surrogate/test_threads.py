"""One BLAS thread where proposals are made, and as many as before elsewhere."""

from collections.abc import Callable

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from utuning_search.search.pruners import predicted
from utuning_search.search.pruners.predicted import PredictedPruner
from utuning_search.search.samplers import ehvi
from utuning_search.search.samplers.ehvi import EHVISampler
from utuning_search.search.surrogate.threads import one_thread
from utuning_search.testing.pretend import PretendStudy


def threads() -> set[int]:
    """Of each BLAS that is loaded."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_within_there_is_one_and_after_it_as_many_as_before() -> None:
    of_torch = torch.get_num_threads()
    with threadpool_limits(2, "blas"):
        with one_thread():
            assert (threads(), torch.get_num_threads()) == ({1}, of_torch)
        assert threads() == {2}
        with pytest.raises(ZeroDivisionError), one_thread():
            raise ZeroDivisionError
        assert threads() == {2}


@pytest.mark.parametrize("module", [ehvi, predicted], ids=["proposals", "pruning"])
def test_proposals_and_predictions_are_made_within(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []

    def watched(make: Callable[..., object]) -> Callable[..., object]:
        return lambda *given: seen.append(threads()) or make(*given)  # type: ignore[func-returns-value]  # it is None

    monkeypatch.setattr(module, "Knowledge", watched(module.Knowledge))  # type: ignore[attr-defined]  # both have it
    with threadpool_limits(2, "blas"):
        PretendStudy(EHVISampler(4), PredictedPruner(startup=1)).play(5)
    assert seen
    assert set.union(*seen) == {1}
