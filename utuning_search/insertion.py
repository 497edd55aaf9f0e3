"""Attach a design to a frozen backbone: x' = OP(x) + s U(x), without touching the backbone.

The backbone's modules are called, never replaced, wrapped, hooked or patched; so many designs can share one
backbone at once, and after `detach` it is what it was, bit for bit.

Where several placements meet at one operation, tuners inside change OP first; then each parallel tuner reads
OP's input, each sequential one OP's output, and all are added. The order of placements never matters.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search import backbone as vit
from utuning_search.design import Design, Placement
from utuning_search.errors import BackboneError
from utuning_search.tuners import BackboneShape, InsideTuner, Operation

HEAD_STD = 0.02


class PlacedTuner(nn.Module):
    """One placement in one block: its tuner or tuners, each with its scale."""

    def __init__(self, placement: Placement, shape: BackboneShape) -> None:
        super().__init__()
        forms = ("parallel", "sequential") if placement.form == "mixed" else (placement.form,)
        self.parallel: nn.Module | None = None
        self.sequential: nn.Module | None = None
        self.constant = placement.scale if isinstance(placement.scale, float) else 1.0
        # A learned scale starts at 0 where the tuner does not: either way the fresh sum is OP(x) exactly.
        start = 1.0 if placement.tuner.starts_at_zero else 0.0
        for form, site in zip(forms, placement.sites(shape), strict=True):
            setattr(self, cast(str, form), placement.tuner.build(site))
            width = {"scalar": 1, "channel": site.out_dim}.get(str(placement.scale))
            if width is not None:
                self.register_parameter(f"{form}_scale", nn.Parameter(torch.full((width,), start)))

    def scale(self, form: str) -> Tensor | float:
        """The learned scale of "parallel" or "sequential", (1,) or (out_dim,), or the constant."""
        learned: Tensor | None = getattr(self, f"{form}_scale", None)
        return self.constant if learned is None else learned

    def forward(self, x: Tensor, y: Tensor, block: nn.Module) -> Tensor:
        """s1 U1(x) + s2 U2(y) for OP's input x and output y = OP(x)."""
        parts = []
        for form, tuner, tokens in (("parallel", self.parallel, x), ("sequential", self.sequential, y)):
            if tuner is not None:
                scale, out = self.scale(form), tuner(tokens, block)
                parts.append(out if isinstance(scale, float) and scale == 1.0 else scale * out)
        total: Tensor = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return total


class TunedBlock(nn.Module):
    """All tuners of one block; the frozen block itself is passed to each call."""

    def __init__(self, placements: list[Placement], shape: BackboneShape) -> None:
        super().__init__()
        self.added = nn.ModuleDict()
        self.inside = nn.ModuleDict()
        for placement in placements:
            home = self.inside if placement.form == "inside" else self.added
            if placement.operation not in home:
                home[placement.operation] = nn.ModuleDict()
            group = cast(nn.ModuleDict, home[placement.operation])
            name, count = placement.tuner.kind, 2
            while name in group:
                name, count = f"{placement.tuner.kind}_{count}", count + 1
            if placement.form == "inside":
                (site,) = placement.sites(shape)
                group[name] = placement.tuner.build(site)
            else:
                group[name] = PlacedTuner(placement, shape)

    def at(self, operation: Operation) -> list[PlacedTuner]:
        return [cast(PlacedTuner, m) for m in _group(self.added, operation)]

    def within(self, operation: Operation) -> list[InsideTuner]:
        return [cast(InsideTuner, m) for m in _group(self.inside, operation)]

    def tokens(self, *, staying: bool) -> list[Tensor]:
        """Tokens (length, dim) that enter at this block, and stay to the last one or leave after this one."""
        found = [(t.stays, t.extra_tokens()) for t in self.within("block")]
        return [extra for stays, extra in found if extra is not None and stays is staying]

    def forward(self, block: Any, x: Tensor, position: int) -> Tensor:
        """The tuned block: (batch, tokens, dim) to the same; visiting tokens sit at `position` meanwhile."""
        visitors = self.tokens(staying=False)
        z = insert(x, visitors, position)
        y = z + self._sum("attention", block, z, self._attention(block, z))
        y = y + self._sum("mlp", block, y, self._mlp(block, y))
        return self._sum("block", block, x, drop(y, sum(map(len, visitors)), position))

    def _sum(self, operation: Operation, block: Any, x: Tensor, y: Tensor) -> Tensor:
        deltas = [tuner(x, y, block) for tuner in self.at(operation)]
        out = y
        for delta in deltas:  # every tuner has read y = OP(x) itself by now, not a sum
            out = out + delta.to(y.dtype)
        return out

    def _linear(self, operation: Operation, module: Any, block: Any, x: Tensor) -> Tensor:
        return self._sum(operation, block, x, module(x))

    def _normalise(self, operation: Operation, norm: nn.Module, x: Tensor) -> Tensor:
        for tuner in self.within(operation):
            if type(tuner).normalise is not InsideTuner.normalise:
                return tuner.normalise(norm, x)
        return cast(Tensor, norm(x))

    def _attention(self, block: Any, x: Tensor) -> Tensor:
        h = self._normalise("attention", block.norm1, x)
        extras = [kv for kv in (t.extra_keys_values() for t in self.within("attention")) if kv is not None]
        if extras or self.at("qkv") or self.at("proj"):
            h = self._attend(block, h, extras)
        else:
            h = block.attn(h)
        return cast(Tensor, block.drop_path1(block.ls1(h)))

    def _attend(self, block: Any, x: Tensor, extras: list[tuple[Tensor, Tensor]]) -> Tensor:
        """timm's Attention.forward step by step, with tuners at its linear maps and rows in its softmax."""
        attn = block.attn
        batch, tokens, _ = x.shape
        gate = getattr(attn, "gate", None)
        opened = None if gate is None else gate(x).sigmoid()
        qkv = self._linear("qkv", attn.qkv, block, x)
        qkv = qkv.reshape(batch, tokens, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = attn.q_norm(q), attn.k_norm(k)
        for keys, values in extras:
            k = torch.cat([keys.to(k.dtype).expand(batch, -1, -1, -1), k], dim=2)
            v = torch.cat([values.to(v.dtype).expand(batch, -1, -1, -1), v], dim=2)
        if attn.fused_attn:
            drop = attn.attn_drop.p if attn.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        else:
            weights = (q * attn.scale @ k.transpose(-2, -1)).softmax(dim=-1)
            x = attn.attn_drop(weights) @ v
        x = x.transpose(1, 2).reshape(batch, tokens, attn.num_heads * attn.head_dim)
        norm = getattr(attn, "norm", None)
        x = x if norm is None else norm(x)
        x = x if opened is None else x * opened
        return cast(Tensor, attn.proj_drop(self._linear("proj", attn.proj, block, x)))

    def _mlp(self, block: Any, x: Tensor) -> Tensor:
        h = self._normalise("mlp", block.norm2, x)
        mlp = block.mlp
        if self.at("fc1") or self.at("fc2"):
            h = self._linear("fc1", mlp.fc1, block, h)
            if hasattr(mlp, "gate_last"):  # timm's GluMlp
                first, second = h.chunk(2, dim=-1)
                h = first * mlp.act(second) if mlp.gate_last else mlp.act(first) * second
            else:
                h = mlp.act(h)
            h = mlp.norm(mlp.drop1(h))
            h = mlp.drop2(self._linear("fc2", mlp.fc2, block, h))
        else:
            h = mlp(h)
        return cast(Tensor, block.drop_path2(block.ls2(h)))


class TunedModel(nn.Module):
    """A frozen backbone, the tuners of a design and a linear head: images to logits.

    Args:
        backbone: A timm VisionTransformer; it is frozen, and shared rather than copied.
        design: Resolved for the backbone's depth here.
        num_classes: Width of the head.
    """

    backbone: Any  # a VisionTransformer; nn.Module's own typing knows nothing of its attributes

    def __init__(self, backbone: nn.Module, design: Design, num_classes: int) -> None:
        super().__init__()
        vit.check_supported(backbone, type(backbone).__name__)
        self.backbone = backbone
        shape = vit.shape_of(backbone)
        self.design = design.resolve(shape.depth)
        self._was_trainable = {n: p.requires_grad for n, p in backbone.named_parameters()}
        self._was_training = {n: m.training for n, m in backbone.named_modules()}
        backbone.requires_grad_(False)
        self.depth = shape.depth
        self.tuners = nn.ModuleDict()
        for block in range(1, shape.depth + 1):
            here = [p for p in self.design.placements if block in p.block_numbers()]
            if here:
                self.tuners[f"block_{block}"] = TunedBlock(here, shape)
        self.head = nn.Linear(self.backbone.num_features, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    @property
    def first_tuned_block(self) -> int:
        """Blocks before this index (from 0) are bare; the depth where none is tuned."""
        numbers = [int(name.removeprefix("block_")) for name in self.tuners]
        return min(numbers) - 1 if numbers else self.depth

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (batch, channels, height, width) to logits (batch, num_classes)."""
        return self.forward_from(vit.embed(self.backbone, images), 0)

    def forward_from(self, tokens: Tensor, start: int) -> Tensor:
        """Tokens (batch, tokens, dim) before block index `start` (from 0) to logits; see `first_tuned_block`."""
        position = self.backbone.num_prefix_tokens  # after class and register tokens: index 0 stays what it is
        entered = 0
        for i in range(start, self.depth):
            block, name = self.backbone.blocks[i], f"block_{i + 1}"
            if name in self.tuners:
                tuned = cast(TunedBlock, self.tuners[name])
                staying = tuned.tokens(staying=True)
                tokens = tuned(block, insert(tokens, staying, position), position)
                entered += sum(map(len, staying))
            else:
                tokens = block(tokens)
        return cast(Tensor, self.head(vit.pool(self.backbone, drop(tokens, entered, position))))

    def parameters_trained(self) -> list[nn.Parameter]:
        """The parameters that an optimizer gets: tuners first, then the head."""
        return [*self.tuners.parameters(), *self.head.parameters()]

    def tuner_state_dict(self) -> dict[str, Tensor]:
        """Tuners and head only, detached; what an export stores."""
        return {k: v.detach().clone() for k, v in self.state_dict().items() if not k.startswith("backbone.")}

    def load_tuner_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what `tuner_state_dict` gave; every tensor has to be there and fit."""
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.")}
        wrong = sorted(own.keys() ^ state.keys()) or [k for k in own if own[k].shape != state[k].shape]
        if wrong:
            raise BackboneError("tuner weights", "they fit the design exactly", ", ".join(wrong[:5]))
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def detach(self) -> nn.Module:
        """The backbone as it was before, trainable flags and training mode included."""
        for name, parameter in self.backbone.named_parameters():
            # A merged copy may have a bias where the backbone had none.
            parameter.requires_grad_(self._was_trainable.get(name, False))
        for name, module in self.backbone.named_modules():
            module.training = self._was_training[name]
        return cast(nn.Module, self.backbone)


def _group(home: nn.ModuleDict, operation: Operation) -> list[nn.Module]:
    return list(cast(nn.ModuleDict, home[operation]).values()) if operation in home else []


def insert(x: Tensor, extras: list[Tensor], position: int) -> Tensor:
    """x (batch, tokens, dim) with extra tokens (length, dim) before index `position`."""
    if not extras:
        return x
    rows = [e.to(x.dtype).expand(x.shape[0], -1, -1) for e in extras]
    return torch.cat([x[:, :position], *rows, x[:, position:]], dim=1)


def drop(x: Tensor, count: int, position: int) -> Tensor:
    """x (batch, tokens, dim) without `count` tokens from index `position`."""
    return x if count == 0 else torch.cat([x[:, :position], x[:, position + count :]], dim=1)
