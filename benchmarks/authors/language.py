"""Methods of language models: what a unified view compares, and Houlsby's adapter, in pre-norm blocks of a ViT."""

import contextlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, bottleneck, compare, frozen, numbered, preset, vit, with_blocks

WIDTH, HEADS, LENGTH, RANK = 64, 4, 3, 4
PARENTS = ("activations", "file_utils", "modeling_outputs", "modeling_utils", "utils")


def mbart(checkout: Checkout, ffn: str = "", attn: str = "", **settings: Any) -> Callable[[Any], nn.Module]:
    """Makes the encoder layers of "Towards a unified view", which are pre-norm blocks, from frozen blocks.

    Args:
        ffn: ffn_option of their script; empty without an adapter.
        attn: attn_option, with prefixes; empty without them.
        settings: What else their script sets.
    """
    given: dict[str, Any] = {f".src.transformers.{name}": StandIn() for name in PARENTS}
    given[".src.transformers.activations"] = StandIn(ACT2FN={"gelu": F.gelu})
    given[".src.transformers.models.mbart.configuration_mbart"] = StandIn()
    factory = checkout.load("petl/petl_factory.py", {"transformers": StandIn()})
    given |= {"petl": StandIn(), "petl.petl_factory": factory}
    original = checkout.load("src/transformers/models/mbart/modeling_mbart.py", given)
    config = SimpleNamespace(d_model=WIDTH, encoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH)
    vars(config).update(attention_dropout=0.0, dropout=0.1, activation_dropout=0.0, activation_function="gelu")
    vars(config).update(attn_mode="prefix" if attn else "none", attn_option=attn, attn_composition="add")
    vars(config).update(attn_bn=LENGTH, ffn_mode="adapter" if ffn else "none", ffn_option=ffn, ffn_bn=RANK)
    vars(config).update(ffn_adapter_init_option="lora", ffn_adapter_layernorm_option="none", ffn_adapter_scalar="1")
    vars(config).update(settings)

    def make(block: Any) -> nn.Module:
        layer = original.MBartEncoderLayer(config)
        names = {"norm1": "self_attn_layer_norm", "attn.proj": "self_attn.out_proj", "norm2": "final_layer_norm"}
        names |= {"mlp.fc1": "fc1", "mlp.fc2": "fc2"}
        state = {}
        for name, tensor in block.state_dict().items():
            path, _, last = name.rpartition(".")
            if path == "attn.qkv":
                pieces = zip("qkv", tensor.chunk(3), strict=True)
                state.update({f"self_attn.{part}_proj.{last}": piece for part, piece in pieces})
            else:
                state[f"{names[path]}.{last}"] = tensor
        for norm in (layer.self_attn_layer_norm, layer.final_layer_norm):
            norm.eps = block.norm1.eps
        return frozen(layer, state, lambda name: "ef_" in name)

    return make


def unified(model: TunedModel, make: Callable[[Any], nn.Module], adapter: str = "", prefix: str = "") -> Difference:
    """Their encoder layers in the place of the ViT's blocks.

    Args:
        adapter: Where our adapter is, such as "mlp.adapter.parallel"; empty without one.
        prefix: Where our prefix is, from its block's "inside" or "added" on.
    """
    backbone: Any = model.backbone
    blocks, pairs = [], []
    for name, block in numbered(model):
        layer: Any = make(block)
        if adapter:
            own = layer.ef_ffn_adapter
            pairs += bottleneck(name, f"added.{adapter}", own.down_proj, own.up_proj)
        state = {}
        if prefix:
            shape = (HEADS, LENGTH, WIDTH // HEADS)
            for kind in ("key", "value"):
                state[f"prev_{kind}"] = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
                pairs.append(Copy(state[f"prev_{kind}"], (f"{name}.{prefix}.{kind}s",)))
        blocks.append(partial(encode, layer, state))
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs)


def encode(layer: nn.Module, prefix: dict[str, Tensor], x: Tensor) -> Tensor:
    """One of their encoder layers, given a prefix (heads, length, head_dim) for each image."""
    rows = {kind: rows.repeat(len(x), 1, 1) for kind, rows in prefix.items()}
    rows["prev_key_padding_mask"] = torch.zeros(len(x), LENGTH)
    out: Tensor = layer(x, None, None, prefix_state={"encoder": rows} if prefix else None)[0]
    return out


def parallel_adapter(checkout: Checkout) -> Difference:
    make = mbart(checkout, "parallel", ffn_adapter_scalar="4")
    return unified(preset(vit(), "parallel-adapter", rank=RANK), make, adapter="mlp.adapter.parallel")


def pfeiffer(checkout: Checkout) -> Difference:
    model = preset(vit(), "pfeiffer", rank=RANK)
    return unified(model, mbart(checkout, "pfeiffer"), adapter="block.adapter.sequential")


def prefix(checkout: Checkout) -> Difference:
    model = preset(vit(), "prefix", length=LENGTH)
    return unified(model, mbart(checkout, attn="concat"), prefix="inside.attention.prefix")


def mam(checkout: Checkout) -> Difference:
    model = preset(vit(), "mam", length=LENGTH, rank=RANK)
    make = mbart(checkout, "parallel", "concat", ffn_adapter_scalar="4")
    return unified(model, make, "mlp.adapter.parallel", "inside.attention.prefix")


def parallel_prefix(checkout: Checkout) -> Difference:
    """Their prefix with vanilla addition, which is U-Tuning's parallel one at attention."""
    model = preset(vit(), "u-tuning-single", size=LENGTH, tuner="prefix")
    return unified(model, mbart(checkout, attn="cross_attn_noln"), prefix="added.attention.prefix.parallel")


class TensorFlow(Tensor):
    """A tensor that answers as TensorFlow's do where Houlsby's adapter asks for its shape."""

    def get_shape(self) -> Any:
        return SimpleNamespace(as_list=lambda: list(self.shape))


def houlsby(checkout: Checkout) -> Difference:
    """`feedforward_adapter`, run on PyTorch's functions of the same names, in the place after each sub-layer."""
    variables: dict[str, Tensor] = {}
    calls = {"tensordot": torch.tensordot, "tanh": torch.tanh, "pow": torch.pow}
    calls["variable_scope"] = lambda name: contextlib.nullcontext(name)
    calls["get_variable"] = lambda name, *_, **__: variables[name]
    names = ("six", "tensorflow", "tensorflow.contrib", "tensorflow.contrib.layers")
    original = checkout.load("modeling.py", {**{n: StandIn() for n in names}, "tensorflow": StandIn(**calls)})
    original.gelu = F.gelu  # theirs is the tanh approximation of it
    backbone = vit()
    model = preset(backbone, "houlsby", rank=RANK)

    def adapt(own: dict[str, Tensor], x: Tensor) -> Tensor:
        variables.update(own)
        out: Tensor = original.feedforward_adapter(x.flatten(0, 1).as_subclass(TensorFlow), hidden_size=RANK)
        return out.as_subclass(Tensor).view_as(x)

    def run(block: Any, own: dict[str, dict[str, Tensor]], x: Tensor) -> Tensor:
        x = x + adapt(own["attention"], block.attn(block.norm1(x)))
        return x + adapt(own["mlp"], block.mlp(block.norm2(x)))

    blocks, pairs = [], []
    for name, block in numbered(model):
        own = {at: weights() for at in ("attention", "mlp")}
        for at, tensors in own.items():
            ours = f"{name}.added.{at}.adapter.sequential"
            for number, part in ((1, "down"), (2, "up")):
                pairs.append(Copy(tensors[f"weights{number}"], (f"{ours}.{part}.weight",), lambda w: w.T))
                pairs.append(Copy(tensors[f"biases{number}"], (f"{ours}.{part}.bias",)))
        blocks.append(partial(run, block, own))
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs)


def weights() -> dict[str, Tensor]:
    shapes = {"weights1": (WIDTH, RANK), "biases1": (1, RANK), "weights2": (RANK, WIDTH), "biases2": (1, WIDTH)}
    return {name: nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
