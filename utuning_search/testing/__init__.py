"""Contracts that everything registered meets, for tuners, samplers, pruners, objectives and backbones of others.

May import: everything but `cli`, and pytest; nothing else imports it.
Start reading: `tuners.py`; `docs/extending.md` shows how a test of your own inherits a contract.
"""

from typing import TYPE_CHECKING

from utuning_search.common.lazy import attributes

if TYPE_CHECKING:
    from utuning_search.testing.backbones import BackboneContract
    from utuning_search.testing.objectives import ObjectiveContract
    from utuning_search.testing.pruners import PrunerContract
    from utuning_search.testing.samplers import SamplerContract
    from utuning_search.testing.tuners import TunerContract

__all__ = ["BackboneContract", "ObjectiveContract", "PrunerContract", "SamplerContract", "TunerContract"]

# Where each lives: who measures with pretended studies needs no pytest.
HOMES = {
    "BackboneContract": "utuning_search.testing.backbones",
    "ObjectiveContract": "utuning_search.testing.objectives",
    "PrunerContract": "utuning_search.testing.pruners",
    "SamplerContract": "utuning_search.testing.samplers",
    "TunerContract": "utuning_search.testing.tuners",
}

__getattr__, __dir__ = attributes(__name__, HOMES)
