"""The same weights in: how far apart are our outputs and gradients and the authors'?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.testing.models import tiny_vit, tuned

TOLERANCE = 1e-5  # of outputs, and of gradients as shares of the largest one of a tensor
LEAST_CHANGE = 1e-3  # what random tuners change of the bare backbone's features, at least
IMAGES = 3
Block = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Copy:
    """One of the authors' tensors as a function of ours: shift + arrange(*ours).

    Attributes:
        theirs: The authors' parameter.
        ours: Names of our tensors, from "block_1." on.
        arrange: A rearrangement or a part of them, the same for values and for gradients; None takes the one tensor
            in the authors' shape.
        shift: What the authors' parameter is where ours is zero.
    """

    theirs: Tensor
    ours: tuple[str, ...]
    arrange: Callable[..., Tensor] | None = None
    shift: Tensor | float = 0.0

    def arranged(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0].reshape(self.theirs.shape) if self.arrange is None else self.arrange(*tensors)


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference of outputs, and of gradients relative to the largest of their tensor.

    Attributes:
        left_out: What of the authors' has no counterpart in ours, where they train more.
    """

    outputs: float
    gradients: float
    left_out: str = ""

    @property
    def equal(self) -> bool:
        return self.outputs <= TOLERANCE and self.gradients <= TOLERANCE


def vit(**settings: Any) -> VisionTransformer:
    """A random timm ViT in double precision: by default two blocks of width 64 on 16 patches."""
    return tiny_vit(**{"img_size": 16, "patch_size": 4, "embed_dim": 64, "num_heads": 4, **settings}).double()


def preset(backbone: VisionTransformer, name: str, **options: Any) -> TunedModel:
    """Our tuned model of a preset with random tuners; it gives features instead of logits."""
    return of_design(backbone, Design.preset(name, **options))


def of_design(backbone: VisionTransformer, design: Design) -> TunedModel:
    model = tuned(backbone, *design.placements, random=True, double=True)
    model.head = nn.Identity()  # type: ignore[assignment]  # features are compared
    return model


def images_for(backbone: VisionTransformer) -> Tensor:
    shape = (IMAGES, 3, *backbone.patch_embed.img_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def with_blocks(backbone: VisionTransformer, blocks: Sequence[Block], images: Tensor) -> Tensor:
    """timm's features of images with other blocks than its own."""
    x = backbone.norm_pre(backbone._pos_embed(backbone.patch_embed(images)))
    for block in blocks:
        x = block(x)
    features: Tensor = backbone.forward_head(backbone.norm(x), pre_logits=True)
    return features


def numbered(model: TunedModel) -> Iterator[tuple[str, nn.Module]]:
    """Names of our tuned blocks, "block_1" and on, and the frozen blocks."""
    backbone: Any = model.backbone
    for number, block in enumerate(backbone.blocks, 1):
        yield f"block_{number}", block


def linear(block: str, ours: str, theirs: nn.Module) -> list[Copy]:
    """Copies of the weight and the bias of a linear map at `ours` in a block."""
    return [Copy(p, (f"{block}.{ours}.{name}",)) for name, p in theirs.named_parameters()]


def bottleneck(block: str, ours: str, down: nn.Module, up: nn.Module) -> list[Copy]:
    """Copies of an adapter's two linear maps."""
    return [*linear(block, f"{ours}.down", down), *linear(block, f"{ours}.up", up)]


def compare(
    model: TunedModel, theirs: Callable[[Tensor], Tensor], pairs: Sequence[Copy], left_out: str = "", unknown: str = ""
) -> Difference:
    """Copy our random tuners to the authors' tensors, and run both on the same images.

    Args:
        model: Ours.
        theirs: The authors' features of images, which depend on the tensors of `pairs`.
        pairs: They have to hold every parameter of our tuners exactly once.
        left_out: See `Difference`.
        unknown: The end of the names of our parameters that the authors have not; empty where they have all.
    """
    backbone: Any = model.backbone
    images = images_for(backbone)
    ours = {n: p for n, p in model.tuners.named_parameters() if not unknown or not n.endswith(unknown)}
    counted = {name: ours[name].numel() for pair in pairs for name in pair.ours}
    given = sum(pair.theirs.numel() for pair in pairs)
    assert counted.keys() == ours.keys(), f"not compared: {sorted(ours.keys() ^ counted.keys())}"
    assert given == sum(counted.values()), f"{given} of {sum(counted.values())} numbers compared"
    with torch.no_grad():
        for pair in pairs:
            pair.theirs.copy_(pair.shift + pair.arranged([ours[name] for name in pair.ours]))
            pair.theirs.requires_grad_()
    our_features = model(images)
    their_features = theirs(images)
    with torch.no_grad():
        bare = with_blocks(backbone, list(backbone.blocks), images)
        assert (our_features - bare).abs().max() > LEAST_CHANGE, "our tuners change nothing"
    weights = torch.randn(our_features.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    named = list(ours)
    our_grads = dict(zip(named, torch.autograd.grad((our_features * weights).sum(), list(ours.values())), strict=True))
    their_grads = torch.autograd.grad((their_features * weights).sum(), [pair.theirs for pair in pairs])
    apart = 0.0
    for pair, gradient in zip(pairs, their_grads, strict=True):
        same = pair.arranged([our_grads[name] for name in pair.ours])
        largest = gradient.abs().max()
        assert largest > 0, f"{pair.ours} has no gradient"
        apart = max(apart, ((same - gradient).abs().max() / largest).item())
    return Difference((our_features - their_features).abs().max().item(), apart, left_out)


def frozen(module: nn.Module, state: dict[str, Tensor], tuners: Callable[[str], bool]) -> nn.Module:
    """`module` in double precision and evaluation mode with the backbone's weights; all else has to be tuners."""
    module = module.double().eval()
    found = module.load_state_dict(state, strict=False)
    assert not found.unexpected_keys, found.unexpected_keys
    wrong = [name for name in found.missing_keys if not tuners(name)]
    assert not wrong, wrong
    return module
