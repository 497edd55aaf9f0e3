"""Everything that the distribution registers meets the contract of its kind."""

from utuning_example.objective import TunedBlocks
from utuning_example.pruner import MarginPruner
from utuning_example.sampler import NeighbourSampler
from utuning_example.tuner import GluConfig

from utuning_search.testing import ObjectiveContract, PrunerContract, SamplerContract, TunerContract


class TestGlu(TunerContract):
    tuner = GluConfig
    corners = ({"rank": 1}, {"rank": 3})


class TestNeighbour(SamplerContract):
    sampler = NeighbourSampler()


class TestMargin(PrunerContract):
    pruner = MarginPruner()


class TestTightMargin(PrunerContract):
    pruner = MarginPruner(margin=0.01)


class TestTunedBlocks(ObjectiveContract):
    objective = TunedBlocks()
