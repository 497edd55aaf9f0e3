"""Tuners: one file a tuner, each with its config, module, closed-form size and references."""

from utuning_search.tuners.adapter import AdapterConfig
from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    FORMS,
    LEARNED_SCALES,
    LINEAR_OPERATIONS,
    OPERATIONS,
    TOKEN_OPERATIONS,
    BackboneShape,
    Form,
    InsideTuner,
    Operation,
    Scale,
    Site,
    Tuner,
    TunerConfig,
)
from utuning_search.tuners.bias import BiasConfig
from utuning_search.tuners.lora import LoraConfig
from utuning_search.tuners.norm import NormConfig
from utuning_search.tuners.prefix import PrefixConfig
from utuning_search.tuners.prompt import PromptConfig
from utuning_search.tuners.references import Reference
from utuning_search.tuners.registry import TUNERS, tuner_class, tuner_config
from utuning_search.tuners.scale_shift import ScaleShiftConfig

__all__ = [
    "ADDITIVE_FORMS",
    "FORMS",
    "LEARNED_SCALES",
    "LINEAR_OPERATIONS",
    "OPERATIONS",
    "TOKEN_OPERATIONS",
    "TUNERS",
    "AdapterConfig",
    "BackboneShape",
    "BiasConfig",
    "Form",
    "InsideTuner",
    "LoraConfig",
    "NormConfig",
    "Operation",
    "PrefixConfig",
    "PromptConfig",
    "Reference",
    "Scale",
    "ScaleShiftConfig",
    "Site",
    "Tuner",
    "TunerConfig",
    "tuner_class",
    "tuner_config",
]
