"""AdapterHub's library `adapters`, whose authors wrote Pfeiffer's adapter, on the ViT of transformers."""

import importlib
import logging
import sys
from typing import Any

import torch
from torch import Tensor

from utuning_search.backbones.tuned_model import TunedModel

from .checkout import Checkout, Missing
from .compare import Copy, Difference, bottleneck, compare, frozen, numbered, preset, vit

WIDTH, HEADS, LENGTH, RANK = 64, 4, 3, 4
# Our preset's options, and the parts of the library's configuration.
OPTIONS: dict[str, dict[str, int]] = {
    "houlsby": {"rank": RANK},
    "pfeiffer": {"rank": RANK},
    "adapter-plus": {"rank": RANK},
    "parallel-adapter": {"rank": RANK},
    "lora": {"rank": RANK},
    "prefix": {"length": LENGTH},
    "mam": {"length": LENGTH, "rank": RANK},
    "unipelt": {"length": LENGTH, "rank": RANK, "adapter_rank": RANK},
}


def library(checkout: Checkout) -> Any:
    """The package, imported from the checkout.

    Raises:
        Missing: Its transformers is not the installed one.
    """
    sys.path.insert(0, str(checkout.path / "src"))
    try:
        logging.getLogger("adapters").setLevel(logging.ERROR)
        return importlib.import_module("adapters")
    except ImportError as error:
        wanted = "pip install 'transformers~=4.57.6' 'datasets<4' in an environment of its own"
        raise Missing(wanted) from error
    finally:
        sys.path.pop(0)


def settings(hub: Any, name: str) -> list[Any]:
    """The library's configuration of one of our presets, in parts."""
    reduced = {"reduction_factor": WIDTH // RANK}
    gated = {"use_gating": name == "unipelt"}
    parts = {
        "houlsby": hub.DoubleSeqBnConfig(**reduced, non_linearity="gelu"),  # theirs is swish
        "pfeiffer": hub.SeqBnConfig(**reduced, **gated),
        "adapter-plus": hub.AdapterPlusConfig(**reduced, dropout=0.0, stochastic_depth=0.0),
        "parallel-adapter": hub.ParBnConfig(**reduced),
        "lora": hub.LoRAConfig(r=RANK, alpha=RANK, **gated),
        "prefix": hub.PrefixTuningConfig(flat=True, prefix_length=LENGTH, dropout=0.0, **gated),
    }
    unions = {"mam": ("prefix", "parallel-adapter"), "unipelt": ("lora", "prefix", "pfeiffer")}
    return [parts[part] for part in unions.get(name, (name,))]


def compared(checkout: Checkout, name: str) -> Difference:
    """A ViT of transformers with the library's modules for one of our presets."""
    hub = library(checkout)
    transformers = importlib.import_module("transformers")
    backbone = vit()
    model = preset(backbone, name, **OPTIONS[name])
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 256}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=4, layer_norm_eps=1e-6)
    theirs = transformers.ViTModel(config, add_pooling_layer=False)
    hub.init(theirs)
    theirs.add_adapter("ours", config=hub.ConfigUnion(*settings(hub, name)), set_active=True)
    # Its prompt tuning, which no preset uses, holds the embeddings under a second name.
    tuners = ("adapters.ours", "loras.ours", "prefix_tunings.ours", "prefix_gates.ours", "prompt_tuning.")
    frozen(theirs, as_transformers(backbone.state_dict()), lambda n: any(t in n for t in tuners))
    pairs = rows_of(theirs, model)
    for (ours, _), layer in zip(numbered(model), theirs.encoder.layer, strict=True):
        pairs += block_pairs(model, ours, layer)
    return compare(model, lambda images: theirs(images).last_hidden_state[:, 0], pairs)


def block_pairs(model: TunedModel, block: str, layer: Any) -> list[Copy]:
    """Copies of what our block has to the library's modules in a layer."""
    attention, pairs = layer.attention.attention, []
    homes = {"attention": layer.attention_adapters, "mlp": layer.output.output_adapters}
    homes["block"] = homes["mlp"]
    for placement in model.design.placements:
        at = f"{block}.{'inside' if placement.form == 'inside' else 'added'}.{placement.operation}"
        if placement.tuner.kind == "adapter":
            own: Any = homes[placement.operation].adapters["ours"]
            at = f"{at}.adapter.{placement.form}"
            pairs += bottleneck(block, at.removeprefix(f"{block}."), own.adapter_down[0], own.adapter_up)
            if placement.scale == "channel":
                pairs.append(Copy(own.scaling, (f"{at}_scale",)))
        elif placement.tuner.kind == "lora":
            own = {"q": attention.query, "v": attention.value}[placement.operation].loras["ours"]
            at = f"{at}.lora.parallel"
            pairs += [Copy(own.lora_A, (f"{at}.a",)), Copy(own.lora_B, (f"{at}.b",))]
        else:
            at = f"{at}.prefix"
        gate = None
        if placement.scale == "gate":
            at, gate = f"{at}_gate", own.gate
        elif getattr(placement.tuner, "reading", "") == "gated":
            at, gate = f"{at}.gate", attention.prefix_tuning.prefix_gates["ours"]
        if gate is not None:
            pairs += [Copy(parameter, (f"{at}.{n}",)) for n, parameter in gate.named_parameters()]
    return pairs


def rows_of(theirs: Any, model: TunedModel) -> list[Copy]:
    """A copy of the prefixes of all our blocks to the one tensor that holds the library's."""
    tensors = [p for n, p in theirs.named_parameters() if n.endswith("control_trans")]
    names = [f"{block}.inside.attention.prefix.{kind}" for block, _ in numbered(model) for kind in ("keys", "values")]
    return [Copy(tensor, tuple(names), flat) for tensor in tensors]


def flat(*rows: Tensor) -> Tensor:
    """Keys and values (heads, length, head_dim) of all blocks as the library keeps them, the length first."""
    return torch.stack(rows).permute(2, 0, 1, 3).flatten()


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights under the names of transformers."""
    names = {
        "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "blocks.": "encoder.layer.",
        "norm1.": "layernorm_before.",
        "norm2.": "layernorm_after.",
        "attn.proj.": "attention.output.dense.",
        "mlp.fc1.": "intermediate.dense.",
        "mlp.fc2.": "output.dense.",
    }
    found = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if name.startswith("norm."):
            name = f"layer{name}"
        if "attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.attention.{part}")] = piece
        else:
            found[name] = tensor
    return found
