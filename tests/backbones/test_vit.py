"""timm's VisionTransformer: what is refused, and what its adapter reads off it."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.layers import GluMlp, Mlp
from timm.models.vision_transformer import Block, ParallelThingsBlock, VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.loading import freeze
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import AdapterConfig

from ..helpers import CLASSES, DIM, shape_of, tiny_vit, tuned, unfuse_attention
from .variants import VARIANTS, every_variant, pictures

Maker = Callable[..., VisionTransformer]


@every_variant
def test_shape_counts_the_backbone_without_head(settings: dict[str, Any]) -> None:
    bare, headed = tiny_vit(**settings), tiny_vit(**settings, num_classes=7)
    shape = shape_of(bare)
    assert shape == shape_of(headed)
    assert shape.parameters == sum(p.numel() for p in bare.parameters())
    block = bare.blocks[0]
    assert shape.widths("qkv") == (block.attn.qkv.in_features, block.attn.qkv.out_features)
    assert shape.widths("proj") == (block.attn.proj.in_features, block.attn.proj.out_features)
    first = [m for n, m in block.mlp.named_children() if n.startswith("fc1")]  # one map, or a gate's and a value's
    assert shape.widths("fc1") == (first[0].in_features, sum(m.out_features for m in first))
    assert shape.widths("fc2") == (block.mlp.fc2.in_features, block.mlp.fc2.out_features)
    assert shape.widths("attention") == shape.widths("mlp") == shape.widths("block") == (DIM, DIM)


def test_unfusing_one_model_leaves_others(make_vit: Maker) -> None:
    first, second = make_vit(), make_vit()
    before = [b.attn.fused_attn for b in second.blocks]
    unfuse_attention(first)
    assert [b.attn.fused_attn for b in second.blocks] == before


def test_a_published_size_of_no_whole_patches_is_taken() -> None:
    """It was trained so, and cuts off what is left; another such size is refused."""
    name = "vit_so400m_patch14_siglip_384"
    assert check_supported(name, None) == {}
    with pytest.raises(InputError, match=r"image_size is a multiple of its patches, 14; got 226\. Take 224 or 238"):
        check_supported(name, 226)


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (lambda: timm.create_model("test_resnet", pretrained=False), "ResNet"),
        (lambda: nn.Linear(2, 2), "Linear"),
        (lambda: timm.create_model("test_mambaout", pretrained=False), "MambaOut"),
        (lambda: tiny_vit(block_fn=ParallelThingsBlock), "ParallelThingsBlock"),
        (lambda: tiny_vit(mlp_layer=_OtherMlp), "_OtherMlp"),
    ],
    ids=["resnet", "linear", "mambaout", "parallel block", "other mlp"],
)
def test_unsupported_models_are_refused(model: Callable[[], nn.Module], got: str) -> None:
    built = model()
    for refuse in (
        lambda: adapter_of(built, "mine"),
        lambda: freeze(built),
        lambda: TunedModel(built, Design(), CLASSES),
    ):
        with pytest.raises(BackboneError, match=got):
            refuse()
    with pytest.raises(BackboneError, match=r"^backbone 'mine'"):
        adapter_of(built, "mine")


class _OtherMlp(nn.Sequential):
    """An MLP without fc1 and fc2."""

    def __init__(self, in_features: int, **_: Any) -> None:
        super().__init__(nn.Linear(in_features, in_features))


class _PostNorm(Block):
    """A block that is a Block by inheritance only: what it computes differs."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


def test_a_block_with_another_forward_is_refused_or_kept(make_vit: Maker) -> None:
    """A subclass that overrides forward must not silently be run as timm's block."""
    backbone = make_vit(block_fn=_PostNorm)
    images = pictures(backbone)
    try:
        model = tuned(backbone, Placement("mlp", AdapterConfig(1)))
    except BackboneError:
        return
    with torch.no_grad():
        assert torch.equal(model(images), model.head(backbone(images)))


def test_no_pooling_is_refused_or_gives_logits_an_image(make_vit: Maker) -> None:
    backbone = make_vit(global_pool="")
    try:
        model = tuned(backbone)
    except BackboneError:
        return
    assert model(pictures(backbone)).shape == (3, CLASSES)


def test_mlp_kinds_are_what_the_variants_say() -> None:
    """The variants above build what their names promise in this timm."""
    kinds = {name: type(tiny_vit(**VARIANTS[name]).blocks[0].mlp) for name in ("plain", "gated mlp", "swiglu")}
    assert kinds == {"plain": Mlp, "gated mlp": GluMlp, "swiglu": GluMlp}
