"""Search over parameter-efficient tuner designs for frozen vision transformers.

from utuning_search import Budget, Study, load_tuned

study = Study.create("full", "digits")
study.run(Budget(trials=48))
print(*study.front(), sep="\\n")
"""

from typing import TYPE_CHECKING

from utuning_search.common.lazy import attributes

if TYPE_CHECKING:
    from utuning_search.backbones.merge import merge
    from utuning_search.backbones.tuned_model import TunedModel
    from utuning_search.common.errors import UTuningError
    from utuning_search.data.given import own_data
    from utuning_search.designs.design import Design, Placement
    from utuning_search.designs.presets import PRESETS, preset
    from utuning_search.designs.spaces.space import Space
    from utuning_search.results.classifier import TunedClassifier
    from utuning_search.results.confirm import confirm
    from utuning_search.results.exports.tuner import export_trial
    from utuning_search.results.load import load_tuned
    from utuning_search.results.pick import pick_trial
    from utuning_search.search.budget import Budget
    from utuning_search.search.callbacks.base import Callback
    from utuning_search.search.pruners.known import ParetoRungs
    from utuning_search.search.study import Study
    from utuning_search.training.task import Task

__all__ = [
    "PRESETS",
    "Budget",
    "Callback",
    "Design",
    "ParetoRungs",
    "Placement",
    "Space",
    "Study",
    "Task",
    "TunedClassifier",
    "TunedModel",
    "UTuningError",
    "confirm",
    "export_trial",
    "load_tuned",
    "merge",
    "own_data",
    "pick_trial",
    "preset",
]

# Where each lives, for those who use it: importing all of them takes many seconds.
HOMES = {
    "PRESETS": "utuning_search.designs.presets",
    "Budget": "utuning_search.search.budget",
    "Callback": "utuning_search.search.callbacks.base",
    "Design": "utuning_search.designs.design",
    "ParetoRungs": "utuning_search.search.pruners.known",
    "Placement": "utuning_search.designs.design",
    "Space": "utuning_search.designs.spaces.space",
    "Study": "utuning_search.search.study",
    "Task": "utuning_search.training.task",
    "TunedClassifier": "utuning_search.results.classifier",
    "TunedModel": "utuning_search.backbones.tuned_model",
    "UTuningError": "utuning_search.common.errors",
    "confirm": "utuning_search.results.confirm",
    "export_trial": "utuning_search.results.exports.tuner",
    "load_tuned": "utuning_search.results.load",
    "merge": "utuning_search.backbones.merge",
    "own_data": "utuning_search.data.given",
    "pick_trial": "utuning_search.results.pick",
    "preset": "utuning_search.designs.presets",
}

__getattr__, __dir__ = attributes(__name__, HOMES)
