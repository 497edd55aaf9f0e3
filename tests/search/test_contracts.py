"""Everything registered in the search meets its contract: samplers, pruners, objectives."""

from dataclasses import dataclass

import pytest

from utuning_search.search.objectives.registry import OBJECTIVES
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.pruners.registry import PRUNERS
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.registry import SAMPLERS
from utuning_search.search.samplers.wrapped import NSGA2Sampler
from utuning_search.testing import ObjectiveContract, PrunerContract, SamplerContract


@pytest.mark.parametrize("kind", SAMPLERS)
class TestSamplers(SamplerContract):
    @pytest.fixture(autouse=True)
    def _take(self, kind: str) -> None:
        self.sampler = SAMPLERS[kind]()


class TestOptions(SamplerContract):
    """A sampler with an option that is not at its default."""

    sampler = NSGA2Sampler(population=4)


@pytest.mark.parametrize("kind", PRUNERS)
class TestPruners(PrunerContract):
    @pytest.fixture(autouse=True)
    def _take(self, kind: str) -> None:
        self.pruner = PRUNERS[kind]()


@pytest.mark.parametrize("name", OBJECTIVES)
class TestObjectives(ObjectiveContract):
    @pytest.fixture(autouse=True)
    def _take(self, name: str) -> None:
        self.objective = OBJECTIVES[name]()


@pytest.mark.parametrize("base", [Pruner, Sampler])
def test_one_that_can_change_is_refused(base: type) -> None:
    """What a spec says of it would not hold."""
    with pytest.raises(TypeError, match="non-frozen"):
        dataclass(type("Mine", (base,), {}))
    assert dataclass(frozen=True)(type("Mine", (base,), {}))
