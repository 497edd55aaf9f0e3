"""Later methods whose authors published a layer: Consolidator, Hydra, AdapterBias, KAdaptation and Compacter."""

from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, compare, numbered, preset, vit, with_blocks
from .low_rank import LINEAR
from .vision import TIMM, without_mask

TERMS = 4


def consolidator(checkout: Checkout) -> Difference:
    """With the paper's reordering of channels, which its file has and its training leaves out."""
    given: dict[str, Any] = {**TIMM, "timm.models.helpers": StandIn(), "timm.models.registry": StandIn()}
    original = checkout.load("model/vision_transformer_timm.py", given)
    groups, theirs = 8, vit()
    model = preset(vit(), "consolidator", groups=groups)
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for operation, path in LINEAR.items():
            old = cast(nn.Linear, block.get_submodule(path))
            own = original.Consolidator(
                old.in_features, old.out_features, with_channel_shuffle=True, fc_groups=(groups,)
            )
            own.double().fc_origin.load_state_dict({"weight": old.weight.unsqueeze(-1), "bias": old.bias})
            parent, _, last = path.rpartition(".")
            setattr(block.get_submodule(parent), last, own)
            added, ours = own.fc_rep_branches[0].group_fc, f"{name}.added.{operation}"
            pairs.append(Copy(added.weight, (f"{ours}.grouped.parallel.weight",)))
            pairs.append(Copy(added.bias, (f"{ours}.bias.parallel.bias",)))
    return compare(model, theirs, pairs, "the norms, and the maps' own biases once more")


def hydra(checkout: Checkout) -> Difference:
    """The width in its file is ViT-B's; its maps' biases stay at zero, where they start."""
    original = checkout.load("vtab1k/hydra.py")
    rank, wide = 2, {"embed_dim": 768, "num_heads": 12}
    theirs = vit(**wide)
    model = preset(vit(**wide), "hydra", rank=rank)
    original.set_hydra(theirs, "hydra_both", {"scale": 1.0, "dropout": 0.0}, dim=rank)
    theirs.double().eval()
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        block.attn.forward = without_mask(block.attn.forward)
        layers = {"proj": (block.attn, "hydra_proj"), "fc2": (block.mlp, "hydra_mlp")}
        for at, (module, own) in layers.items():
            for form, short in {"parallel": "par", "sequential": "seq"}.items():
                layer, ours = getattr(module, f"{own}_{short}"), f"{name}.added.{at}.lora.{form}"
                pairs += [Copy(layer.down_proj.weight, (f"{ours}.a",)), Copy(layer.up_proj.weight, (f"{ours}.b",))]
    return compare(model, theirs, pairs, "biases of the low-rank maps")


def adapter_bias(checkout: Checkout) -> Difference:
    """Its `BertOutput` after the first map and the activation of a ViT's MLP, without BERT's norm behind it."""
    names = (
        "activations",
        "file_utils",
        "modeling_outputs",
        "modeling_utils",
        "utils",
        "models.bert.configuration_bert",
    )
    given: dict[str, Any] = {f".src.transformers.{name}": StandIn() for name in names}
    settings = SimpleNamespace(adapter=True, share_alpha=0)
    given["config"] = StandIn(get_args=lambda: settings)
    original = checkout.load("src/transformers/models/bert/modeling_bert.py", given)
    backbone = vit()
    model = preset(backbone, "adapterbias")
    sizes = SimpleNamespace(intermediate_size=256, hidden_size=64, layer_norm_eps=1e-6, hidden_dropout_prob=0.0)
    blocks, pairs = [], []
    for name, frozen in numbered(model):
        block: Any = frozen
        with redirect_stdout(None):  # it tells its settings
            own = original.BertOutput(sizes).double()
        own.dense.load_state_dict(block.mlp.fc2.state_dict())
        own.LayerNorm = nn.Identity()  # behind the sum in BERT; a ViT has its norms before
        nn.init.zeros_(own.adapter_alpha.bias)
        ours = f"{name}.added.fc2.lora.parallel"
        pairs += [Copy(own.adapter_alpha.weight, (f"{ours}.a",)), Copy(own.adapter_vector, (f"{ours}.b",))]

        def run(x: Tensor, block: Any = block, own: Any = own) -> Tensor:
            x = x + block.attn(block.norm1(x))
            out: Tensor = own(block.mlp.act(block.mlp.fc1(block.norm2(x))), x)
            return out

        blocks.append(run)
    left_out = "a bias of each token's weight, and the norms"
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs, left_out)


def turned(tensor: Tensor) -> Tensor:
    """A stack of matrices of ours for their products x H, where ours are H x."""
    return tensor.transpose(-1, -2)


def compacter(checkout: Checkout) -> Difference:
    """Its adapters with the exact GELU, behind attention and MLP."""
    layers = checkout.load("seq2seq/hypercomplex/layers.py")
    activations = StandIn(get_activation=lambda name: {"gelu": nn.functional.gelu}[name])
    given: dict[str, Any] = {"seq2seq": StandIn(), "seq2seq.hypercomplex": StandIn(), "transformers": StandIn()}
    given |= {"seq2seq.hypercomplex.layers": layers, "transformers.activations": activations}
    given[".seq2seq.adapters.low_rank_layer"] = StandIn()
    original = checkout.load("seq2seq/adapters/adapter_modeling.py", given)
    backbone, rank = vit(), 8
    model = preset(backbone, "compacter", rank=rank, terms=TERMS)
    config = SimpleNamespace(input_dim=64, reduction_factor=64 // rank, non_linearity="gelu", phm_c_init="normal")
    vars(config).update(hypercomplex_division=TERMS, learn_phm=True, hypercomplex_nonlinearity="glorot-uniform")
    vars(config).update(shared_phm_rule=True, factorized_phm=True, shared_W_phm=False, factorized_phm_rule=False)
    vars(config).update(phm_rank=1, phm_init_range=1e-4, kronecker_prod=False)
    rule = nn.Parameter(torch.zeros(TERMS, TERMS, TERMS, dtype=torch.float64))
    pairs = [Copy(rule, (f"shared.compacter_{rank}_{TERMS}.a",), turned)]
    blocks = []
    for name, frozen in numbered(model):
        own = {at: original.HyperComplexAdapter(config).double() for at in ("attention", "mlp")}
        for at, adapter in own.items():
            for part, sampler in {"down": adapter.down_sampler, "up": adapter.up_sampler}.items():
                sampler.set_phm_rule(phm_rule=rule)
                ours = f"{name}.added.{at}.compacter.sequential.{part}"
                pairs.append(Copy(sampler.W_left, (f"{ours}.t",), turned))
                pairs.append(Copy(sampler.W_right, (f"{ours}.s",), turned))
                pairs.append(Copy(sampler.b, (f"{ours}_bias",)))

        def run(x: Tensor, block: Any = frozen, own: dict[str, Any] = own) -> Tensor:
            made = block.attn(block.norm1(x))
            x = x + made + own["attention"](made)
            made = block.mlp(block.norm2(x))
            out: Tensor = x + made + own["mlp"](made)
            return out

        blocks.append(run)
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs, "the norms")


def kadaptation(checkout: Checkout) -> Difference:
    """Its change of the queries for queries and for values, with rules of full rank, at the scale 1."""
    original = checkout.load("vision_benchmark/evaluation/model.py")
    backbone, terms = vit(), 32  # a number of its file
    model = preset(backbone, "kadaptation", terms=terms)
    rule = nn.Parameter(torch.zeros(terms, terms, terms, dtype=torch.float64))
    whole = torch.eye(terms, dtype=torch.float64).expand(terms, terms, terms)
    pairs = [Copy(rule, (f"shared.kronecker_1_{terms}.a",), turned)]
    blocks = []
    for name, frozen in numbered(model):
        layers = {at: original.MultiheadAttention(64, 4).double().eval() for at in "qv"}
        for at, layer in layers.items():
            layer.set_phm_rule(phm_rule1_right=whole, phm_rule1_left=rule)
            layer.lora_attn_alpha = layer.lora_attn_dim / 5
            ours = f"{name}.added.{at}.kronecker.parallel.sum"
            pairs.append(Copy(layer.q_proj_adapter1_left, (f"{ours}.t",), turned))
            pairs.append(Copy(layer.q_proj_adapter1_right, (f"{ours}.s",), turned))

        def run(x: Tensor, block: Any = frozen, layers: dict[str, Any] = layers) -> Tensor:
            attn, z = block.attn, block.norm1(x)
            q, k, v = attn.qkv(z).chunk(3, dim=-1)
            q, v = (part + layers[at].adapter_forward(z, "q") for at, part in {"q": q, "v": v}.items())
            heads = [part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in (q, k, v)]
            x = x + attn.proj(nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
            out: Tensor = x + block.mlp(block.norm2(x))
            return out

        blocks.append(run)
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs, "a bias of queries and values")
