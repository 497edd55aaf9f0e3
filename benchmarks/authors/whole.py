"""Later methods whose authors changed a whole ViT or its blocks: RepAdapter, ARC, RLRR, AIM and E²VPT."""

from contextlib import redirect_stdout
from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, bottleneck, compare, frozen, numbered, preset, vit, with_blocks
from .vision import TIMM, jeonsworld

SIZES = {"mlp_dim": 256, "num_heads": 4, "num_layers": 2}
PLACES = {"q": "attn.query", "k": "attn.key", "v": "attn.value", "proj": "attn.out", "fc1": "ffn.fc1", "fc2": "ffn.fc2"}


def repadapter(checkout: Checkout) -> Difference:
    """The width in its file is ViT-B's."""
    original = checkout.load("repadapter.py")
    rank, scale, theirs = 4, 0.5, vit(embed_dim=768, num_heads=12)
    model = preset(vit(embed_dim=768, num_heads=12), "repadapter", rank=rank, scale=scale)
    original.set_RepAdapter(theirs, "repblock", dim=rank, s=scale)
    theirs.double().eval()
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for at, own in {"norm1": block.adapter_attn, "norm2": block.adapter_mlp}.items():
            ours = f"{name}.added.{at}.repadapter.sequential"
            maps = {"down.weight": own.conv_A.weight, "down.bias": own.conv_A.bias}
            maps |= {"up": own.conv_B.weight, "bias": own.conv_B.bias}
            pairs += [Copy(tensor, (f"{ours}.{ending}",)) for ending, tensor in maps.items()]
    return compare(model, theirs, pairs)


def arc(checkout: Checkout) -> Difference:
    original = checkout.load("Model/ARC_ViT.py", {"Utils": StandIn(), "Utils.tools": StandIn()})
    backbone, rank = vit(), 6
    model = preset(backbone, "arc", rank=rank)
    rates = {"attention_drop_rate": 0.0, "mlp_drop_rate": 0.1}
    config = SimpleNamespace(patches={"size": (4, 4)}, hidden_size=64, transformer={**SIZES, **rates})
    vars(config).update(adapter_dim=rank, adapter_dropout=0.1)
    theirs = original.ARCVisionTransformer(config, 16, num_classes=1)
    theirs.head_mlp.head = nn.Identity()
    names = {"transformer.encoder.layer.": "transformer.layer.", "encoder.encoder_norm": "layer_norm"}
    names |= {"embeddings.patch_embeddings": "embedding.projective", "embeddings.cls_token": "embedding.cls"}
    names |= {"embeddings.position_embeddings": "embedding.position_embedding", "attention_norm": "att_layer_norm"}
    names |= {"ffn_norm": "fnn_layer_norm", ".ffn.": ".mlp.", ".attn.out.": ".attention.projective."}
    names |= {".attn.": ".attention.", "transformer.embedding": "embedding"}
    frozen(theirs, renamed(jeonsworld(backbone.state_dict()), names), lambda n: "adapter" in n or "down_proj" in n)
    own, at_norms = theirs.transformer, {"norm1": "att", "norm2": "mlp"}
    pairs = [
        Copy(getattr(own, f"{part}_down_projection"), (f"shared.arc_{rank}_{at}.p",), lambda p: p.T)
        for at, part in at_norms.items()
    ]
    for (name, _), layer in zip(numbered(model), own.layer, strict=True):
        for at, part in at_norms.items():
            adapter, ours = getattr(layer, f"{part}_adapter"), f"{name}.added.{at}.arc.sequential"
            pairs += [Copy(adapter.adapter_rescale, (f"{ours}.c",)), Copy(adapter.adapter_bias, (f"{ours}.bias",))]
    return compare(model, theirs, pairs)


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """A state with parts of its names replaced, one after the other."""
    found = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


def rlrr(checkout: Checkout) -> Difference:
    given = {"models": StandIn(), "scipy": StandIn()}
    original = checkout.load("models/networks.py", given)
    backbone = vit()
    model = preset(backbone, "rlrr")
    rates = {"attention_dropout_rate": 0.0, "dropout_rate": 0.1}
    config = SimpleNamespace(patches={"size": (4, 4)}, hidden_size=64, transformer={**SIZES, **rates})
    config.classifier = "token"
    theirs = original.RLRRVisionTransformer(config, 16, num_classes=1)
    theirs.head = nn.Identity()
    state = jeonsworld(backbone.state_dict())
    for path in PLACES.values():
        state = renamed(state, {f"{path}.weight": f"{path}.mlp.weight", f"{path}.bias": f"{path}.mlp.bias"})
    frozen(theirs, state, lambda n: "scale_" in n or "shift_" in n)
    nothing = {theirs.transformer.embeddings: "patch", theirs.transformer.encoder: "enc_norm"}
    for module, at in nothing.items():
        nn.init.ones_(getattr(module, f"ssf_scale_{at}"))
        nn.init.zeros_(getattr(module, f"ssf_shift_{at}"))
    pairs = []
    for (name, _), layer in zip(numbered(model), theirs.transformer.encoder.layer, strict=True):
        for at, norm in {"norm1": "attn_norm", "norm2": "ffn_norm"}.items():
            ours = f"{name}.added.{at}.scale_shift.sequential"
            pairs.append(Copy(getattr(layer, f"ssf_scale_{norm}"), (f"{ours}.gamma",), shift=1.0))
            pairs.append(Copy(getattr(layer, f"ssf_shift_{norm}"), (f"{ours}.beta",)))
        for at, path in PLACES.items():
            own, ours = layer.get_submodule(path), f"{name}.added.{at}"
            pairs.append(Copy(own.scale_line, (f"{ours}.rescale.parallel.rows",)))
            pairs.append(Copy(own.scale_col, (f"{ours}.rescale.parallel.columns",)))
            if at != "k":
                pairs.append(Copy(own.shift_bias, (f"{ours}.bias.parallel.bias",)))
    return compare(model, theirs, pairs, "a shift of keys, and a scale and shift after the final norm")


def aim(checkout: Checkout) -> Difference:
    """Its block on videos of one frame, with the temporal adapter as it starts, at zero."""
    names = ("turtle", "clip", "mmaction", "mmaction.utils", ".mmaction.models.builder")
    given: dict[str, Any] = {**TIMM, **{name: StandIn() for name in names}}
    original = checkout.load("mmaction/models/backbones/vit_imagenet.py", given)
    backbone = vit()
    model = preset(backbone, "aim", rank=16)
    blocks, pairs = [], []
    for name, block in numbered(model):
        own = original.Block(64, 1, 4, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        frozen(own, block.state_dict(), lambda n: "_Adapter" in n)
        nn.init.zeros_(own.T_Adapter.D_fc2.weight)
        nn.init.zeros_(own.T_Adapter.D_fc2.bias)
        for at, adapter in {
            "attention.adapter.sequential": own.S_Adapter,
            "ffn.adapter.parallel": own.MLP_Adapter,
        }.items():
            pairs += bottleneck(name, f"added.{at}", adapter.D_fc1, adapter.D_fc2)
        blocks.append(own)
    left_out = "an adapter and a position for each frame of a video"
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs, left_out)


def e2vpt(checkout: Checkout) -> Difference:
    """Without masks, which are what is pruned, and with rows of their own for keys and values."""
    stubs = ("turtle", "scipy", "ml_collections", ".src.utils", ".src.utils.logging")
    given: dict[str, Any] = {**TIMM, **{name: StandIn() for name in stubs}}
    original = checkout.load("src/models/vit_prompt/vit_prompt_VK.py", given)
    backbone, length, rows = vit(), 3, 2
    model = preset(backbone, "e2vpt", length=length, rows=rows)
    rates = {"attention_dropout_rate": 0.0, "dropout_rate": 0.1}
    config = SimpleNamespace(patches={"size": (4, 4)}, hidden_size=64, classifier="token")
    config.transformer = {**SIZES, **rates}
    settings = SimpleNamespace(LOCATION="prepend", INITIATION="random", NUM_DEEP_LAYERS=None, DEEP_SHARED=False)
    vars(settings).update(NUM_TOKENS_P=length, DROPOUT_P=0.1, PROJECT=-1, DEEP_P=True, VIT_POOL_TYPE="original")
    vars(settings).update(NUM_TOKENS=rows, DROPOUT=0.1, DEEP=True, LAYER_BEHIND=True, SHARE_PARAM_KV=False)
    vars(settings).update(ORIGIN_INIT=1, SHARED_ACCROSS=False, MASK_CLS_TOKEN=False, QUERY_PROMPT_MODE=0)
    original.CONFIGS["tiny"] = config
    with redirect_stdout(None):  # it tells its settings
        theirs = original.PromptedVisionTransformer_Prompt_VK(settings, "tiny", 16, num_classes=0)
    frozen(theirs, jeonsworld(backbone.state_dict()), lambda n: "prompt_embeddings" in n or "QKV_embeddings" in n)
    own = theirs.transformer
    pairs = [
        Copy(own.prompt_embeddings, ("block_1.inside.block.prompt.tokens",)),
        Copy(own.deep_prompt_embeddings, ("block_2.inside.block.prompt.tokens",)),
    ]
    for (name, _), layer in zip(numbered(model), own.encoder.layer, strict=True):
        pairs.append(Copy(layer.attn.deep_QKV_embeddings_K, (f"{name}.inside.attention.prefix.keys",)))
        pairs.append(Copy(layer.attn.deep_QKV_embeddings_V, (f"{name}.inside.attention.prefix.values",)))
    return compare(model, theirs, pairs, "masks of prompts, by which it prunes them")
