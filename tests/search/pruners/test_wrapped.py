"""Optuna's pruners, asked through a study in memory."""

from dataclasses import replace

import pytest

from utuning_search.search.pruners.wrapped import HalvingPruner, MedianPruner, OptunaPruner
from utuning_search.testing.pruners import rung_of


@pytest.mark.parametrize("pruner", [MedianPruner(startup=0), HalvingPruner()])
def test_a_trial_whose_quality_is_not_measured_goes_on(pruner: OptunaPruner) -> None:
    """As at a rung that measures the second objective only: there is nothing to stop it for."""
    bad = rung_of(0.0, played_by=pruner)
    assert pruner.prunes(bad)
    for measured in ({}, {bad.epoch: {"macro_f1": 0.0}}):
        assert not pruner.prunes(replace(bad, measured=measured))
