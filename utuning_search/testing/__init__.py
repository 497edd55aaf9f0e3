"""Contracts that everything registered meets, for tuners, samplers, pruners and objectives of other distributions.

May import: everything but `cli`, and pytest; nothing else imports it.
Start reading: `samplers.py`; `docs/extending.md` shows how a test of your own inherits one.
"""

from utuning_search.testing.objectives import ObjectiveContract
from utuning_search.testing.pruners import PrunerContract
from utuning_search.testing.samplers import SamplerContract

__all__ = ["ObjectiveContract", "PrunerContract", "SamplerContract"]
