"""Tuners: one file a tuner, with its config, module, closed-form size and references.

May import: `common`; of libraries torch.
Start reading: `base.py` for what a tuner claims, `lora.py` for a short one.
"""

from utuning_search.tuners.adapter import AdapterConfig
from utuning_search.tuners.arc import ArcConfig
from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    CORE_OPERATIONS,
    FORMS,
    GATE,
    LEARNED_SCALES,
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OPERATIONS,
    OUTSIDE_OPERATIONS,
    QKV_PARTS,
    TOKEN_OPERATIONS,
    Form,
    InsideTuner,
    Operation,
    Scale,
    Tuner,
    TunerConfig,
    check_choice,
    check_count,
)
from utuning_search.tuners.bias import BiasConfig
from utuning_search.tuners.compacter import CompacterConfig
from utuning_search.tuners.conv import ConvConfig
from utuning_search.tuners.dora import DoraConfig
from utuning_search.tuners.experts import ExpertsConfig
from utuning_search.tuners.fact import FactConfig
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.graph import GraphConfig
from utuning_search.tuners.grouped import GroupedConfig
from utuning_search.tuners.kronecker import KroneckerConfig
from utuning_search.tuners.lora import LoraConfig
from utuning_search.tuners.norm import NormConfig
from utuning_search.tuners.oft import OftConfig
from utuning_search.tuners.prefix import PrefixConfig
from utuning_search.tuners.prompt import PromptConfig
from utuning_search.tuners.references import Reference
from utuning_search.tuners.registry import TUNERS, tuner_class, tuner_config
from utuning_search.tuners.repadapter import RepAdapterConfig
from utuning_search.tuners.rescale import RescaleConfig
from utuning_search.tuners.sas import SasConfig
from utuning_search.tuners.scale_shift import ScaleShiftConfig
from utuning_search.tuners.sites import BackboneShape, Site, Stage
from utuning_search.tuners.vera import VeraConfig

__all__ = [
    "ADDITIVE_FORMS",
    "CORE_OPERATIONS",
    "FORMS",
    "GATE",
    "LEARNED_SCALES",
    "LINEAR_OPERATIONS",
    "NORM_OPERATIONS",
    "OPERATIONS",
    "OUTSIDE_OPERATIONS",
    "QKV_PARTS",
    "TOKEN_OPERATIONS",
    "TUNERS",
    "AdapterConfig",
    "ArcConfig",
    "BackboneShape",
    "BiasConfig",
    "CompacterConfig",
    "ConvConfig",
    "DoraConfig",
    "ExpertsConfig",
    "FactConfig",
    "Form",
    "FrozenBlock",
    "GraphConfig",
    "GroupedConfig",
    "InsideTuner",
    "KroneckerConfig",
    "LoraConfig",
    "NormConfig",
    "OftConfig",
    "Operation",
    "PrefixConfig",
    "PromptConfig",
    "Reference",
    "RepAdapterConfig",
    "RescaleConfig",
    "SasConfig",
    "Scale",
    "ScaleShiftConfig",
    "Site",
    "Stage",
    "Tuner",
    "TunerConfig",
    "VeraConfig",
    "check_choice",
    "check_count",
    "tuner_class",
    "tuner_config",
]
