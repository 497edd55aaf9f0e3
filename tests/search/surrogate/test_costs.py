"""Costs of designs, found once: those of the objective, for each design and setting."""

from dataclasses import replace
from typing import ClassVar

from utuning_search.designs.design import Design, Placement
from utuning_search.search.objectives.cost import Parameters
from utuning_search.search.surrogate.costs import cost, places
from utuning_search.testing.pretend import SETTING
from utuning_search.tuners import AdapterConfig


class Counted(Parameters):
    """Says how often it was asked."""

    asked: ClassVar[int] = 0

    def value(self, design: Design, setting: object) -> float:
        Counted.asked += 1
        return super().value(design, setting)  # type: ignore[arg-type]  # it is a setting


def adapter(rank: int) -> Design:
    return Design((Placement("mlp", AdapterConfig(rank)),)).resolve(SETTING.shape.depth)


def test_each_is_asked_for_once_and_is_that_of_its_design_and_setting() -> None:
    counted, more = Counted(), replace(SETTING, num_classes=20)
    for _ in range(3):
        for setting in (SETTING, more):
            for rank in (1, 2):
                expected = adapter(rank).num_parameters(setting.shape, setting.num_classes)
                assert cost(counted, adapter(rank), setting) == expected
    assert Counted.asked == 4


def test_places_are_goodness_by_column() -> None:
    designs, parameters = [adapter(1), Design(), adapter(30)], Parameters()
    found = places([parameters, parameters], designs, SETTING)
    expected = parameters.goodness([d.num_parameters(SETTING.shape, 10) for d in designs], SETTING)
    assert (found == expected[:, None]).all()
    assert found.shape == (3, 2)
    assert places([], designs, SETTING).shape == (3, 0)
