"""The one list of backbone families, ours and those of other distributions (entry point `utuning_search.backbones`).

With it the adapter of a model.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from utuning_search.backbones.beit import BeitAdapter
from utuning_search.backbones.convnext import ConvNextAdapter
from utuning_search.backbones.eva import EvaAdapter
from utuning_search.backbones.family import BackboneAdapter
from utuning_search.backbones.hiera import HieraAdapter
from utuning_search.backbones.metaformer import MetaFormerAdapter
from utuning_search.backbones.mvitv2 import MultiScaleVitAdapter
from utuning_search.backbones.naflexvit import NaFlexVitAdapter
from utuning_search.backbones.parallel import ParallelVitAdapter, SummedVitAdapter
from utuning_search.backbones.qwen3 import Qwen3Adapter
from utuning_search.backbones.relpos import RelPosAdapter
from utuning_search.backbones.swin import SwinAdapter
from utuning_search.backbones.swin_v2 import SwinV2Adapter
from utuning_search.backbones.swin_v2_cr import SwinV2CrAdapter
from utuning_search.backbones.vit import VisionTransformerAdapter
from utuning_search.backbones.xcit import XcitAdapter
from utuning_search.common.errors import BackboneError
from utuning_search.common.plugins import Registry
from utuning_search.tuners import OUTSIDE_OPERATIONS

OURS: tuple[type[BackboneAdapter], ...] = (
    VisionTransformerAdapter,
    EvaAdapter,
    BeitAdapter,
    SwinAdapter,
    SwinV2Adapter,
    ConvNextAdapter,
    MetaFormerAdapter,
    XcitAdapter,
    Qwen3Adapter,
    NaFlexVitAdapter,
    SwinV2CrAdapter,
    HieraAdapter,
    MultiScaleVitAdapter,
    RelPosAdapter,
    ParallelVitAdapter,
    SummedVitAdapter,
)
FAMILIES: Mapping[str, type[BackboneAdapter]] = Registry(
    "utuning_search.backbones",
    OURS,
    BackboneAdapter,  # type: ignore[type-abstract]  # a base
    "named",
)


def supported() -> str:
    """The rule of errors about models of no family."""
    return f"the model is {' or '.join(FAMILIES)}"


def defaults_of(model: nn.Module) -> dict[str, Any]:
    """What timm is told to make this model again so that it carries tuners; see `BackboneAdapter.defaults`."""
    return next((family.defaults(model) for family in FAMILIES.values() if family.recognises(model)), {})


def adapter_of(model: nn.Module, name: str | None = None) -> BackboneAdapter:
    """The adapter of a model, by its family.

    Args:
        model: Stays as it is.
        name: For errors; None takes its class's.

    Raises:
        BackboneError: Tuners cannot be attached to it; says why.
    """
    where = f"backbone '{name or type(model).__name__}'"
    for family in FAMILIES.values():
        if family.recognises(model):
            family.check(model, where)
            adapter = family(model)
            _check_widths(adapter, where)
            return adapter
    raise BackboneError(where, supported(), type(model).__name__)


def _check_widths(adapter: BackboneAdapter, where: str) -> None:
    """Raise BackboneError unless the blocks are as wide as the shape says: one for all, or for all of a stage."""
    shape = adapter.shape
    for i, block in enumerate(adapter.blocks):
        for operation in adapter.operations:
            if operation in OUTSIDE_OPERATIONS:
                continue
            own, wanted = block.widths(operation), shape.at(i + 1).widths(operation)
            if own != wanted:
                rule = f"all blocks are of one width, {wanted[0]} to {wanted[1]} at {operation}"
                raise BackboneError(f"{where}, block {i + 1}", rule, f"{own[0]} to {own[1]}")
