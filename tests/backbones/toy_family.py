"""A family from outside the package: another architecture under other names, with as little as tuners need.

Three maps make queries, keys and values, so it has no operation "qkv"; no token stands before the patches; the norms
are RMSNorm; the MLP is a ReLU network.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneAdapter, BackboneBlock, BlockTuners, LinearPart
from utuning_search.common.errors import BackboneError
from utuning_search.tuners import OPERATIONS, OUTSIDE_OPERATIONS, BackboneShape, Operation

WIDTH, HEADS, HIDDEN, DEPTH, SIDE, PATCH = 12, 3, 20, 2, 8, 2
LACKS: tuple[Operation, ...] = ("qkv", *OUTSIDE_OPERATIONS)
LAST = {
    "q": "ask",
    "k": "key",
    "v": "value",
    "proj": "out",
    "fc1": "up",
    "fc2": "down",
    "attention": "out",
    "mlp": "down",
}


class ToyLayer(nn.Module):
    """One block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.ask, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        q, k, v = (split(m(h)) for m in (self.ask, self.key, self.value))
        x = x + self.out(mix(q, k, v))
        return x + self.down(torch.relu(self.up(self.second(x))))


class Toy(nn.Module):
    """Images (batch, 1, 8, 8) to (batch, 12)."""

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.layers = nn.ModuleList(ToyLayer() for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        x = self.cut(images).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x.mean(dim=1)


def split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(-3, -2)


def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q * (WIDTH // HEADS) ** -0.5 @ k.transpose(-2, -1)
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


class ToyBlock(BackboneBlock):
    """The adapter of a ToyLayer."""

    def __init__(self, layer: ToyLayer) -> None:
        self.layer = layer

    @property
    def softmax_scale(self) -> float:
        return float((WIDTH // HEADS) ** -0.5)

    def queries(self, x: Tensor) -> Tensor:
        return split(self.layer.ask(self.layer.first(x)))

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return split(self.layer.key(tokens)), split(self.layer.value(tokens))

    def project(self, mixed: Tensor) -> Tensor:
        return nn.functional.linear(mixed, self.layer.out.weight)

    def norm(self, operation: Operation) -> nn.Module:
        return self.layer.first if operation in ("attention", "norm1") else self.layer.second

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation in ("q", "k", "v", "proj", "fc1", "fc2"):
            module = self.linear(operation).module
            return module.in_features, module.out_features
        return WIDTH, WIDTH

    def linear(self, operation: Operation) -> LinearPart:
        module = getattr(self.layer, LAST[operation])
        return LinearPart(module, slice(0, module.out_features))

    def ends_in_linear(self, operation: Operation) -> bool:
        del operation
        return True

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        layer = self.layer

        def at(operation: Operation, module: nn.Module, read: Tensor) -> Tensor:
            return tuners.add(operation, self, read, module(read))

        h = tuners.add("norm1", self, x, tuners.normalise("attention", layer.first, x))
        q, k, v = (split(at(o, m, h)) for o, m in (("q", layer.ask), ("k", layer.key), ("v", layer.value)))
        for keys, values in tuners.rows(h):
            k = torch.cat([keys.expand(len(x), -1, -1, -1), k], dim=2)
            v = torch.cat([values.expand(len(x), -1, -1, -1), v], dim=2)
        out = tuners.add("mhsa", self, h, at("proj", layer.out, mix(q, k, v)))
        y = x + tuners.add("attention", self, x, out)
        h = tuners.add("norm2", self, y, tuners.normalise("mlp", layer.second, y))
        out = tuners.add("ffn", self, h, at("fc2", layer.down, torch.relu(at("fc1", layer.up, h))))
        return y + tuners.add("mlp", self, y, out)


class ToyAdapter(BackboneAdapter):
    """The adapter of a Toy."""

    named: ClassVar[str] = "a toy"
    head: ClassVar[tuple[str, ...]] = ("head.",)
    operations: ClassVar[tuple[Operation, ...]] = tuple(o for o in OPERATIONS if o not in LACKS)

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.blocks = tuple(ToyBlock(layer) for layer in self.model.layers)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, Toy)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        if not len(model.layers):
            raise BackboneError(where, "a toy has blocks", "none")

    @property
    def shape(self) -> BackboneShape:
        size = sum(p.numel() for p in self.model.parameters())
        side = SIDE // PATCH
        numbers = (WIDTH, len(self.blocks), HEADS, WIDTH // HEADS, HIDDEN, HIDDEN)
        return BackboneShape(*numbers, parameters=size, grid=(side, side), plain_norms=False, lacks=LACKS)

    num_features = WIDTH
    num_prefix_tokens = 0
    image_size = SIDE
    channels = 1

    def embed(self, images: Tensor) -> Tensor:
        return self.model.cut(images).flatten(2).transpose(1, 2)

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)

    def unfuse_attention(self) -> None:
        """It is plain already."""

    def check_image_size(self, where: str) -> None:
        """It has one size only."""

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return state
