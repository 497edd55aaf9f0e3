"""Search over parameter-efficient tuner designs for frozen vision transformers.

from utuning_search import Budget, Study, load_tuned

study = Study.create("full", "digits")
study.run(Budget(trials=48))
print(*study.front(), sep="\\n")
"""

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import UTuningError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.presets import PRESETS, preset
from utuning_search.designs.spaces.space import Space
from utuning_search.results.confirm import confirm
from utuning_search.results.export import export_trial, pick_trial
from utuning_search.results.load import TunedClassifier, load_tuned
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training.task import Task

__all__ = [
    "PRESETS",
    "Budget",
    "Design",
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
    "pick_trial",
    "preset",
]
