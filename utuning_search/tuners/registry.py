"""The one list of tuners: ours, and those that other distributions add by the entry point `utuning_search.tuners`."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from utuning_search.common.errors import InputError, refuse_unknown_keys
from utuning_search.common.plugins import Registry
from utuning_search.tuners.adapter import AdapterConfig
from utuning_search.tuners.arc import ArcConfig
from utuning_search.tuners.base import TunerConfig, field_names
from utuning_search.tuners.bias import BiasConfig
from utuning_search.tuners.compacter import CompacterConfig
from utuning_search.tuners.conv import ConvConfig
from utuning_search.tuners.dora import DoraConfig
from utuning_search.tuners.experts import ExpertsConfig
from utuning_search.tuners.fact import FactConfig
from utuning_search.tuners.graph import GraphConfig
from utuning_search.tuners.grouped import GroupedConfig
from utuning_search.tuners.kronecker import KroneckerConfig
from utuning_search.tuners.lora import LoraConfig
from utuning_search.tuners.norm import NormConfig
from utuning_search.tuners.oft import OftConfig
from utuning_search.tuners.prefix import PrefixConfig
from utuning_search.tuners.prompt import PromptConfig
from utuning_search.tuners.repadapter import RepAdapterConfig
from utuning_search.tuners.rescale import RescaleConfig
from utuning_search.tuners.sas import SasConfig
from utuning_search.tuners.scale_shift import ScaleShiftConfig
from utuning_search.tuners.vera import VeraConfig

OURS: tuple[type[TunerConfig], ...] = (
    AdapterConfig,
    ConvConfig,
    GraphConfig,
    CompacterConfig,
    LoraConfig,
    ExpertsConfig,
    FactConfig,
    KroneckerConfig,
    GroupedConfig,
    VeraConfig,
    DoraConfig,
    RescaleConfig,
    OftConfig,
    PrefixConfig,
    PromptConfig,
    ScaleShiftConfig,
    BiasConfig,
    NormConfig,
    RepAdapterConfig,
    ArcConfig,
    SasConfig,
)
TUNERS = Registry("utuning_search.tuners", OURS, TunerConfig, "kind")  # type: ignore[type-abstract]  # a base


def tuner_class(kind: object, where: str) -> type[TunerConfig]:
    """The registered config class of a kind."""
    if not isinstance(kind, str) or kind not in TUNERS:
        raise InputError(where, "tuner is a known kind", repr(kind), TUNERS.advice(kind))
    return TUNERS[kind]


def tuner_config(kind: object, options: Mapping[str, Any], where: str) -> TunerConfig:
    """A config from its kind and options, as written in TOML."""
    cls = tuner_class(kind, where)
    known = field_names(cls)
    refuse_unknown_keys(options, known, f"{where}, tuner '{kind}'")
    if len(options) < len(known):
        for field in fields(cls):
            if field.name not in options and field.default is MISSING:
                raise InputError(f"{where}, tuner '{kind}'", f"{field.name} is given", "nothing", f"Add {field.name}.")
    return cls(**options)
