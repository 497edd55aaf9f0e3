"""The tuners of one block, and how they join its operations: x' = OP(x) + s U(x).

Where several placements meet at one operation, tuners inside change OP first; then each parallel tuner reads
OP's input, each sequential one OP's output, and all are added. The order of placements never matters. Operations
nest: what is added at a linear map, a norm, `mhsa` or `ffn` is part of the `attention` or `mlp` around it.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.designs.placement import Placement
from utuning_search.tuners import GATE, QKV_PARTS, BackboneShape, InsideTuner, Operation

MIX_START = 0.5  # of a bypass's λ: both its inputs weigh the same


class Gate(nn.Module):
    """A scale that is a function of the input: σ(w·t + b), averaged over tokens; starts at 1/2 (UniPELT)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, tokens, width) to (batch, 1, 1)."""
        return torch.sigmoid(x @ self.weight.to(x.dtype) + self.bias.to(x.dtype)).mean(dim=1).view(-1, 1, 1)


class PlacedTuner(nn.Module):
    """One placement in one block: its tuner or tuners, each with its scale."""

    def __init__(self, placement: Placement, shape: BackboneShape) -> None:
        super().__init__()
        both = placement.form in ("mixed", "bypass")
        forms = ("parallel", "sequential") if both else (placement.form,)
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
            elif placement.scale == GATE:
                self.register_module(f"{form}_gate", Gate(site.in_dim))
        self.mix = nn.Parameter(torch.full((1,), MIX_START)) if placement.form == "bypass" else None

    def gate(self, form: str) -> Gate | None:
        """The gate of "parallel" or "sequential", if it has one."""
        return cast(Gate | None, getattr(self, f"{form}_gate", None))

    def scale(self, form: str) -> Tensor | float:
        """The learned scale of "parallel" or "sequential", (1,) or (out_dim,), or the constant."""
        learned: Tensor | None = getattr(self, f"{form}_scale", None)
        return self.constant if learned is None else learned

    def forward(self, x: Tensor, y: Tensor, block: nn.Module) -> Tensor:
        """s1 U1(x) + s2 U2(y) for OP's input x and output y = OP(x)."""
        parts = [
            self._scaled(form, tuner, tokens, block)
            for form, tuner, tokens in (("parallel", self.parallel, x), ("sequential", self.sequential, y))
            if tuner is not None
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def bypass(self, stream: Tensor, side: Tensor, block: nn.Module) -> Tensor:
        """λ (x + s1 U1(x)) + (1 - λ) (b + s2 U2(b)) for the frozen block's output x and the side stream b.

        Res-Tuning-Bypass (2310.19859); both (batch, tokens, dim).
        """
        mix = cast(Tensor, self.mix)
        horizontal = stream + self._scaled("parallel", cast(nn.Module, self.parallel), stream, block).to(stream.dtype)
        vertical = side + self._scaled("sequential", cast(nn.Module, self.sequential), side, block).to(side.dtype)
        return mix * horizontal + (1 - mix) * vertical

    def _scaled(self, form: str, tuner: nn.Module, tokens: Tensor, block: nn.Module) -> Tensor:
        out: Tensor = tuner(tokens, block)
        gate, scale = self.gate(form), self.scale(form)
        if gate is not None:
            return cast(Tensor, gate(tokens) * out)
        return out if isinstance(scale, float) and scale == 1.0 else scale * out


class TunedBlock(nn.Module):
    """All tuners of one block; the frozen block itself is passed to each call."""

    def __init__(self, placements: list[Placement], shape: BackboneShape) -> None:
        super().__init__()
        self.added = nn.ModuleDict()
        self.inside = nn.ModuleDict()
        self.names: dict[Placement, str] = {}  # of each placement's module, in its operation's group
        for placement in placements:
            home = self.inside if placement.form == "inside" else self.added
            if placement.operation not in home:
                home[placement.operation] = nn.ModuleDict()
            group = cast(nn.ModuleDict, home[placement.operation])
            name, count = placement.tuner.kind, 2
            while name in group:
                name, count = f"{placement.tuner.kind}_{count}", count + 1
            self.names[placement] = name
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

    def modules_placed(self) -> list[nn.Module]:
        """Every tuner module that is added, without its scale."""
        placed = [cast(PlacedTuner, t) for group in self.added.values() for t in cast(nn.ModuleDict, group).values()]
        return [m for t in placed for m in (t.parallel, t.sequential) if m is not None]

    def bypass(self, block: nn.Module, stream: Tensor, side: Tensor) -> Tensor:
        """The side stream after this block, from the frozen block's output and the side stream before it."""
        for tuner in self.at("block"):
            side = tuner.bypass(stream, side, block)
        return side

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
        h = self._sum("norm1", block, x, self._normalise("attention", block.norm1, x))
        extras = [kv for kv in (t.extra_keys_values() for t in self.within("attention")) if kv is not None]
        if extras or any(self.at(operation) for operation in ("qkv", *QKV_PARTS, "proj")):
            out = self._attend(block, h, extras)
        else:
            out = block.attn(h)
        return self._sum("mhsa", block, h, cast(Tensor, block.drop_path1(block.ls1(out))))

    def _attend(self, block: Any, x: Tensor, extras: list[tuple[Tensor, Tensor]]) -> Tensor:
        """timm's Attention.forward step by step, with tuners at its linear maps and rows in its softmax."""
        attn = block.attn
        batch, tokens, _ = x.shape
        gate = getattr(attn, "gate", None)
        opened = None if gate is None else gate(x).sigmoid()
        qkv = self._qkv(block, x)
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

    def _qkv(self, block: Any, x: Tensor) -> Tensor:
        qkv = self._linear("qkv", block.attn.qkv, block, x)
        if not any(self.at(part) for part in QKV_PARTS):
            return qkv
        parts = qkv.chunk(3, dim=-1)
        return torch.cat([self._sum(p, block, x, y) for p, y in zip(QKV_PARTS, parts, strict=True)], dim=-1)

    def _mlp(self, block: Any, x: Tensor) -> Tensor:
        read = h = self._sum("norm2", block, x, self._normalise("mlp", block.norm2, x))
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
        return self._sum("ffn", block, read, cast(Tensor, block.drop_path2(block.ls2(h))))


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
