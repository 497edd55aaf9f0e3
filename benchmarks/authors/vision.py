"""Methods whose authors changed a ViT: SSF, VPT, AdaptFormer, Convpass, FacT, BitFit, and the adapters beside them."""

import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import timm.layers
import timm.models.vision_transformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, bottleneck, compare, frozen, numbered, preset, vit, with_blocks

GRID = 14  # Convpass's and FacT's files have ViT-B/16's numbers: 14 x 14 patches of width 768
BASE = {"img_size": 2 * GRID, "patch_size": 2, "embed_dim": 768, "num_heads": 12}
TIMM = {"timm.models.layers": timm.layers, "timm.models.layers.helpers": timm.layers}


def ssf(checkout: Checkout) -> Difference:
    stubs = {name: StandIn() for name in ("ipdb", "timm.models.helpers", "timm.models.registry")}
    original = checkout.load("models/vision_transformer.py", {**TIMM, **stubs})
    backbone = vit()
    model = preset(backbone, "ssf")
    settings = {"img_size": 16, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 4, "num_classes": 0}
    theirs = original.VisionTransformer(**settings, weight_init="skip", tuning_mode="ssf")
    frozen(theirs, backbone.state_dict(), lambda name: "ssf_" in name)
    for outside in (theirs, theirs.patch_embed):
        nn.init.ones_(outside.ssf_scale_1)
        nn.init.zeros_(outside.ssf_shift_1)
    pairs = []
    for name, block in zip((n for n, _ in numbered(model)), theirs.blocks, strict=True):
        places = {"norm1": (block, 1), "norm2": (block, 2), "qkv": (block.attn, 1), "proj": (block.attn, 2)}
        places |= {"fc1": (block.mlp, 1), "fc2": (block.mlp, 2)}
        for operation, (module, number) in places.items():
            ours = f"{name}.added.{operation}.scale_shift.sequential"
            pairs.append(Copy(getattr(module, f"ssf_scale_{number}"), (f"{ours}.gamma",), shift=1.0))
            pairs.append(Copy(getattr(module, f"ssf_shift_{number}"), (f"{ours}.beta",)))
    return compare(model, theirs, pairs, "scales and shifts after the patch embedding and the final norm")


def vpt(checkout: Checkout, deep: bool) -> Difference:
    stubs = (".src.utils", ".src.utils.logging", "ml_collections", "turtle")
    given: dict[str, Any] = {name: StandIn() for name in stubs}
    original = checkout.load("src/models/vit_prompt/vit.py", given)
    backbone, length = vit(), 3
    model = preset(backbone, "vpt-deep" if deep else "vpt-shallow", length=length)
    sizes = {"mlp_dim": 256, "num_heads": 4, "num_layers": 2, "attention_dropout_rate": 0.0, "dropout_rate": 0.1}
    config = SimpleNamespace(patches={"size": (4, 4)}, hidden_size=64, transformer=sizes, classifier="token")
    prompts = SimpleNamespace(LOCATION="prepend", INITIATION="random", NUM_DEEP_LAYERS=None, DEEP_SHARED=False)
    vars(prompts).update(NUM_TOKENS=length, DROPOUT=0.1, PROJECT=-1, DEEP=deep, VIT_POOL_TYPE="original")
    original.CONFIGS["tiny"] = config
    theirs = original.PromptedVisionTransformer(prompts, "tiny", 16, num_classes=0)
    frozen(theirs, jeonsworld(backbone.state_dict()), lambda name: "prompt_embeddings" in name)
    own = theirs.transformer
    pairs = [Copy(own.prompt_embeddings, ("block_1.inside.block.prompt.tokens",))]
    if deep:
        pairs.append(Copy(own.deep_prompt_embeddings, ("block_2.inside.block.prompt.tokens",)))
    return compare(model, theirs, pairs)


def jeonsworld(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights under the names of the ViT in VPT's repository."""
    names = {
        "patch_embed.proj.": "embeddings.patch_embeddings.",
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "blocks.": "encoder.layer.",
        "norm1.": "attention_norm.",
        "norm2.": "ffn_norm.",
        "attn.proj.": "attn.out.",
        ".mlp.": ".ffn.",
    }
    found = {}
    for name, tensor in state.items():
        if name.startswith("norm."):
            found[f"transformer.encoder.encoder_{name}"] = tensor
            continue
        for old, new in names.items():
            name = name.replace(old, new)
        if "attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"transformer.{name.replace('qkv', part)}"] = piece
        else:
            found[f"transformer.{name}"] = tensor
    return found


class BlockOfThoseDays(Block):
    """timm's Block with the names that it had before both of its branches got a DropPath of their own."""

    def __init__(self, *args: Any, drop: float = 0.0, **settings: Any) -> None:
        super().__init__(*args, proj_drop=drop, **settings)
        self.drop_path = self.drop_path1


def vpt_adapter(checkout: Checkout) -> Difference:
    given = {**TIMM, ".src.utils": StandIn(), "timm.models.vision_transformer": StandIn(Block=BlockOfThoseDays)}
    original = checkout.load("src/models/vit_adapter/adapter_block.py", given)
    backbone, rank = vit(), 4
    model = preset(backbone, "adapter", rank=rank)
    config = SimpleNamespace(STYLE="Pfeiffer", REDUCATION_FACTOR=64 // rank)
    blocks, pairs = [], []
    for name, block in numbered(model):
        own = original.Pfeiffer_Block(config, 64, 4, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        frozen(own, block.state_dict(), lambda n: n.startswith("adapter_"))
        pairs += bottleneck(name, "added.mlp.adapter.sequential", own.adapter_downsample, own.adapter_upsample)
        blocks.append(own)
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs)


def adaptformer(checkout: Checkout) -> Difference:
    given: dict[str, Any] = {**TIMM}
    original = checkout.load("models/vit_image.py", given)
    backbone, rank = vit(), 4
    model = preset(backbone, "adaptformer", rank=rank)
    config = SimpleNamespace(ffn_adapt=True, ffn_option="parallel", ffn_num=rank, ffn_adapter_init_option="lora")
    vars(config).update(ffn_adapter_scalar="0.1", ffn_adapter_layernorm_option="none", d_model=64, vpt_on=False)
    theirs = original.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=64, depth=2, num_heads=4, num_classes=0, tuning_config=config
    )
    state = {}
    for name, tensor in backbone.state_dict().items():
        if "attn.qkv." in name:
            pieces = zip("qkv", tensor.chunk(3), strict=True)
            state.update({name.replace("qkv", f"{part}_proj"): piece for part, piece in pieces})
        else:
            state[name.replace(".mlp.", ".")] = tensor
    frozen(theirs, state, lambda name: ".adaptmlp." in name)
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        own = block.adaptmlp
        pairs += bottleneck(name, "added.mlp.adapter.parallel", own.down_proj, own.up_proj)
    return compare(model, theirs, pairs)


def convpass(checkout: Checkout) -> Difference:
    original = checkout.load("convpass/vtab/convpass.py")
    backbone, theirs = vit(**BASE, depth=1), vit(**BASE, depth=1)
    model = preset(backbone, "convpass", rank=8)
    for block in theirs.blocks:
        block.drop_path = nn.Identity()  # of timm's Block of those days
    original.set_Convpass(theirs, "convpass", dim=8, s=1)
    theirs.double().eval()
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for operation, own in (("mhsa", block.adapter_attn), ("ffn", block.adapter_mlp)):
            at = f"added.{operation}.conv.parallel"
            pairs += bottleneck(name, at, own.adapter_down, own.adapter_up)
            conv = own.adapter_conv
            ours = (f"{name}.{at}.conv.weight",), (f"{name}.{at}.conv.bias",)
            pairs += [Copy(conv.weight, ours[0]), Copy(conv.bias, ours[1])]
    return compare(model, theirs, pairs)


def fact(checkout: Checkout) -> Difference:
    heavy = (
        "avalanche",
        "avalanche.evaluation",
        "avalanche.evaluation.metrics",
        "avalanche.evaluation.metrics.accuracy",
    )
    given: dict[str, Any] = {name: StandIn() for name in (*heavy, "vtab", "tqdm", "yaml")}
    original = checkout.load("FacT/fact_tt.py", given)
    backbone, theirs, rank = vit(**BASE, depth=1), vit(**BASE, depth=1), 4
    model = preset(backbone, "fact", rank=rank)
    for block in theirs.blocks:
        block.mlp.drop = nn.Identity()  # of timm's Mlp of those days
    # timm has moved both classes since; the file looks for them where they were.
    was = SimpleNamespace(
        models=SimpleNamespace(
            vision_transformer=timm.models.vision_transformer,
            layers=SimpleNamespace(mlp=SimpleNamespace(Mlp=timm.layers.Mlp)),
        )
    )
    original.timm, original.vit = was, theirs
    original.set_FacT(theirs, dim=rank, s=1)
    for block in theirs.blocks:
        block.attn.forward = without_mask(block.attn.forward)
    theirs.double().eval()
    pairs = [Copy(theirs.FacTu.weight, ("shared.fact_4_768.u",)), Copy(theirs.FacTv.weight, ("shared.fact_4_768.v",))]
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for number, part in enumerate("qkv"):
            rows = slice(rank * number, rank * (number + 1))
            core = (f"{name}.added.qkv.fact.parallel.core",)
            pairs.append(Copy(getattr(block.attn, f"{part}_FacTs").weight, core, lambda c, rows=rows: c[rows]))
        own = {"proj": block.attn.proj_FacTs, "fc1": block.mlp.fc1_FacTs, "fc2": block.mlp.fc2_FacTs}
        pairs += [Copy(m.weight, (f"{name}.added.{at}.fact.parallel.core",)) for at, m in own.items()]
    return compare(model, theirs, pairs)


def without_mask(forward: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """An attention's forward for timm's Block of today, which names a mask even where there is none."""

    def called(x: Tensor, **settings: Any) -> Tensor:
        assert not any(settings.values())
        return forward(x)

    return called


def bitfit(checkout: Checkout) -> Difference:
    """Their method that says which parameters of a model are trained, for all bias terms."""
    heavy = ("seaborn", "matplotlib", "matplotlib.pyplot", "scipy.stats", "sklearn.metrics", "datasets", "transformers")
    given: dict[str, Any] = {
        name: StandIn() for name in (*heavy, "datasets.arrow_dataset", "transformers.optimization")
    }
    given["utils"] = StandIn(setup_logging=lambda: None)
    evaluator = checkout.load("glue_evaluator.py", given).GLUEvaluator
    logging.getLogger("glue_evaluator").setLevel(logging.ERROR)
    backbone, theirs = vit(), vit()
    model = preset(backbone, "bitfit")
    terms = evaluator.convert_to_actual_components(["all"])
    evaluator._deactivate_relevant_gradients(SimpleNamespace(model=theirs), terms)
    chosen = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    maps = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    pairs = []
    for number, (name, _) in enumerate(numbered(model)):
        for at in ("norm1", "norm2", *maps):
            own = chosen.pop(f"blocks.{number}.{maps.get(at, at)}.bias")
            pairs.append(Copy(own, (f"{name}.added.{at}.bias.parallel.bias",), shift=own.detach().clone()))
    return compare(model, theirs, pairs, ", ".join(chosen))


# The name of its wiring, our preset, and where our adapter is and in which of theirs, per wiring of Adapter+'s Block.
WIRINGS: dict[str, tuple[str, dict[str, str]]] = {
    "adapter-plus": ("post", {"block.adapter.sequential": "adapter"}),
    "houlsby": ("houlsby", {"attention.adapter.sequential": "adapter_attn", "mlp.adapter.sequential": "adapter"}),
    "pfeiffer": ("pfeiffer", {"block.adapter.sequential": "adapter"}),
    "adapter": ("intermediate", {"mlp.adapter.sequential": "adapter"}),
    "adaptformer": ("parallel", {"mlp.adapter.parallel": "adapter"}),
}


def adapter_plus(checkout: Checkout, name: str) -> Difference:
    """Their Block in the wiring of one of our presets."""
    given = {**TIMM, "timm.models.helpers": StandIn()}
    original = checkout.load("adapter_plus/vit_adapter.py", given)
    backbone, rank = vit(), 4
    model = preset(backbone, name, rank=rank)
    wiring, places = WIRINGS[name]
    scaling = {"post": "channel", "parallel": 0.1}.get(wiring, 1.0)
    config = SimpleNamespace(dim=rank, dropout=0.0, drop_path=0.0, act_layer=True, norm_layer=False, bias=True)
    vars(config).update(scaling=scaling, init="lora", attn_adapter=wiring == "houlsby", config=wiring)
    blocks, pairs = [], []
    for ours, block in numbered(model):
        own = original.AdapterBlock(
            64, 4, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), adapter_config=config
        )
        frozen(own, block.state_dict(), lambda n: n.startswith("adapter"))
        for at, attribute in places.items():
            adapter = getattr(own, attribute)
            if name in ("pfeiffer", "adaptformer"):
                adapter.bottleneck[2] = nn.ReLU()  # theirs takes the activation of the ViT's MLP
            pairs += bottleneck(ours, f"added.{at}", adapter.bottleneck[1], adapter.bottleneck[4])
            if scaling == "channel":
                pairs.append(Copy(adapter.scaling, (f"{ours}.added.{at}_scale",)))
        blocks.append(own)
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs)
