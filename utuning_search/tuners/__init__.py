"""Tuners: one file a tuner, with its config, module, closed-form size and references.

May import: `common`; of libraries torch.
Start reading: `base.py` for what a tuner claims, `lora.py` for a short one.
"""

from utuning_search.tuners.adapter import AdapterConfig
from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    CORE_OPERATIONS,
    FORMS,
    GATE,
    LEARNED_SCALES,
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OPERATIONS,
    QKV_PARTS,
    TOKEN_OPERATIONS,
    Form,
    InsideTuner,
    Operation,
    Scale,
    Tuner,
    TunerConfig,
)
from utuning_search.tuners.bias import BiasConfig
from utuning_search.tuners.conv import ConvConfig
from utuning_search.tuners.experts import ExpertsConfig
from utuning_search.tuners.fact import FactConfig
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.lora import LoraConfig
from utuning_search.tuners.norm import NormConfig
from utuning_search.tuners.prefix import PrefixConfig
from utuning_search.tuners.prompt import PromptConfig
from utuning_search.tuners.references import Reference
from utuning_search.tuners.registry import TUNERS, tuner_class, tuner_config
from utuning_search.tuners.scale_shift import ScaleShiftConfig
from utuning_search.tuners.sites import BackboneShape, Site

__all__ = [
    "ADDITIVE_FORMS",
    "CORE_OPERATIONS",
    "FORMS",
    "GATE",
    "LEARNED_SCALES",
    "LINEAR_OPERATIONS",
    "NORM_OPERATIONS",
    "OPERATIONS",
    "QKV_PARTS",
    "TOKEN_OPERATIONS",
    "TUNERS",
    "AdapterConfig",
    "BackboneShape",
    "BiasConfig",
    "ConvConfig",
    "ExpertsConfig",
    "FactConfig",
    "Form",
    "FrozenBlock",
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
