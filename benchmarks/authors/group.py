"""The tuners that U-Tuning's authors published: Res-Tuning's in ms-swift, SCEdit's there and in scepter."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, bottleneck, compare, numbered, preset, vit, with_blocks

RANK, WIDTH = 4, 64


class Activation:
    """Stands for ms-swift's mixin, which switches a tuner on and off."""

    def __init__(self, key: str) -> None:
        self.key = key

    def is_activated(self, name: str) -> bool:
        return bool(name)

    def mark_all_sub_modules_as_plugin(self) -> None:
        pass


def components(checkout: Checkout) -> Any:
    given: dict[str, Any] = {"einops": StandIn(), "swift": StandIn(), "swift.utils": StandIn()}
    return checkout.load("swift/tuners/restuning_components.py", given)


def res_adapter(checkout: Checkout) -> Callable[[str | None], Any]:
    """Makes Res-Tuning's adapters, x + s U(x), without a scale or with a learned one a channel."""
    original = components(checkout)

    def make(scale: str | None) -> Any:
        config = {"res_adapter": {"adapter_length": RANK, "adapter_weight": scale}}
        return original.ResTuner(WIDTH, 0, 1, tuner_cfg=config).double().tuner

    return make


def sce_adapter(checkout: Checkout, file: str) -> Callable[[str | None], Any]:
    """Makes SCEdit's tuners, x + U(x)."""
    names = ("swift", "swift.utils", "scepter", "scepter.modules", "scepter.modules.model")
    names += ("scepter.modules.model.tuner", "scepter.modules.model.tuner.tuner_utils")
    original = checkout.load(file, {name: StandIn() for name in names})
    return lambda scale: original.SCEAdapter(WIDTH, RANK, adapter_weight=scale).double()


def tuner_pairs(block: str, at: str, own: Any, scale: str | None) -> list[Copy]:
    pairs = bottleneck(block, f"added.{at}", own.ln1, own.ln2)
    return pairs if scale is None else [*pairs, Copy(own.scaling, (f"{block}.added.{at}_scale",))]


def parallel(model: TunedModel, make: Callable[[str | None], Any]) -> Difference:
    """Their tuners as x + s U(x), the residual, wherever ours are parallel."""
    backbone: Any = model.backbone
    blocks, pairs = [], []
    for number, (name, block) in enumerate(numbered(model), 1):
        own = {}
        for placement in model.design.placements:
            if number in placement.block_numbers():
                scale = {"none": None, "channel": "scale_channel"}[str(placement.scale)]
                own[placement.operation] = tuner = make(scale)
                pairs += tuner_pairs(name, f"{placement.operation}.adapter.parallel", tuner, scale)
        blocks.append(residuals(block, own))
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs)


def residuals(block: Any, tuners: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """A pre-norm block: OP(x) plus the residual x, which a tuner changes to x + s U(x)."""

    def run(x: Tensor) -> Tensor:
        def skip(operation: str, z: Tensor) -> Tensor:
            return tuners[operation](z) if operation in tuners else z

        y = skip("attention", x) + block.attn(block.norm1(x))
        y = skip("mlp", y) + block.mlp(block.norm2(y))
        return y + (skip("block", x) - x)

    return run


def u_tuning(checkout: Checkout, name: str, **options: Any) -> Difference:
    """U-Tuning's and Res-Tuning's designs of adapters."""
    return parallel(preset(vit(), name, size=RANK, **options), res_adapter(checkout))


def scedit(checkout: Checkout, file: str) -> Difference:
    return parallel(preset(vit(), "scedit", rank=RANK), sce_adapter(checkout, file))


def bypass(checkout: Checkout, mixed: bool) -> Difference:
    """Res-Tuning-Bypass: their whole method on timm's ViT, or their tuners under the paper's λ.

    Args:
        mixed: λ U(x) + (1 - λ) U(b) as in the paper; their code has U(x) + U(b).
    """
    shared = StandIn(SwiftConfig=object, SwiftAdapter=object, ActivationMixin=Activation, SwiftOutput=SimpleNamespace)
    names = {"swift": StandIn(), "swift.utils": StandIn(), "einops": StandIn(), ".swift.tuners.mapping": StandIn()}
    original = checkout.load("swift/tuners/restuning.py", {**names, ".swift.tuners.utils": shared})
    backbone, theirs = vit(), vit()
    model = preset(backbone, "res-tuning-bypass", rank=RANK)
    tuner = {"res_adapter": {"adapter_length": RANK}}
    config = SimpleNamespace(dims=WIDTH, use_upsample=False, upsample_out_channels=None, zero_init_last=False)
    vars(config).update(tuner_cfg={"lateral_cfg": tuner, "vertical_cfg": tuner}, target_hidden_pos=0)
    vars(config).update(root_modules="blocks.0", stem_modules=r"blocks\.\d+", target_modules="norm")
    vars(config).update(root_modules_hook="input", stem_modules_hook="output", target_modules_hook="input")
    original.ResTuning.prepare_model(theirs, config, "ours")
    theirs.double()
    pairs = []
    for (name, _), own in zip(numbered(model), theirs.restuning_ours.bypass_blocks, strict=True):
        pairs += tuner_pairs(name, "block.adapter.parallel", own.lateral_tuner.tuner, None)
        pairs += tuner_pairs(name, "block.adapter.sequential", own.vertical_tuner.tuner, None)
        if mixed:
            mix = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            pairs.append(Copy(mix, (f"{name}.added.block.adapter.mix",)))
            own.forward = under(own, mix)
    return compare(model, theirs, pairs, unknown="" if mixed else ".mix")


def under(own: Any, mix: Tensor) -> Callable[..., Tensor]:
    def forward(stream: Tensor, side: Tensor, size: Any = None) -> Tensor:
        del size
        return mix * own.lateral_tuner(stream) + (1 - mix) * own.vertical_tuner(side)

    return forward
