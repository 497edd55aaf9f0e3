"""Which of timm's models with weights can carry tuners, and why not the others?

    python benchmarks/backbone_names.py [--out docs/reference/backbone-names.md] [--only swin,convnext]

Every architecture of timm's modules of our families is made without memory for its tensors, with its real shape. Where
it can carry tuners, one design with a tuner at each operation is attached, and its declared size has to be the counted
one.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import nn

from utuning_search.backbones.loading import without_weights
from utuning_search.backbones.registry import adapter_of, supported
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import UTuningError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.legality import misplaced
from utuning_search.tuners import (
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OPERATIONS,
    OUTSIDE_OPERATIONS,
    AdapterConfig,
    BackboneShape,
    BiasConfig,
    LoraConfig,
    ScaleShiftConfig,
)

# timm's modules with a model of our families, and their nearest kin.
MODULES = (
    "vision_transformer",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "deit",
    "eva",
    "beit",
    "qwen3_vit",
    "swin_transformer",
    "swin_transformer_v2",
    "convnext",
    "metaformer",
    "xcit",
    "swin_transformer_v2_cr",
    "naflexvit",
    "hiera",
    "mvitv2",
)
PAGE = Path(__file__).parents[1] / "docs/reference/backbone-names.md"
CLASSES = 10
HEAD = "| architecture | tuners | blocks, or the reason | weights |"


@dataclass(frozen=True)
class Row:
    """One architecture.

    Attributes:
        name: timm's.
        tags: Of its pretrained weights; one is empty where there is no tag.
        carries: Whether it can carry tuners.
        said: Its blocks and widths, or why it cannot.
    """

    name: str
    tags: tuple[str, ...]
    carries: bool
    said: str

    def __str__(self) -> str:
        tags = ", ".join(tag for tag in self.tags if tag) or "-"
        return f"| `{self.name}` | {'yes' if self.carries else 'no'} | {self.said} | {tags} |"


def architectures(module: str) -> dict[str, tuple[str, ...]]:
    """The tags of timm's weights by the architectures of a module."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models(pretrained=True, module=module):
        architecture, _, tag = name.partition(".")
        found[architecture].append(tag)
    return {name: tuple(tags) for name, tags in sorted(found.items())}


def row(name: str, tags: tuple[str, ...]) -> Row:
    """Of one architecture, which is made."""
    try:
        model = without_weights(name)
        shape = adapter_of(model, name).shape
        check_size(model, shape)
    except UTuningError as error:
        none = error.rule == supported()
        said = f"of no family: {error.got}" if none else f"{error.rule}; got {error.got}"
        return Row(name, tags, carries=False, said=said.replace("|", "or"))
    return Row(name, tags, carries=True, said=told(shape))


def check_size(model: nn.Module, shape: BackboneShape) -> None:
    """Raise AssertionError unless a design with a tuner at each operation has its declared size."""
    wanted = [Placement(o, LoraConfig(4)) for o in LINEAR_OPERATIONS]
    wanted += [Placement(o, AdapterConfig(4), "mixed", "channel") for o in ("attention", "mlp", "block")]
    wanted += [Placement(o, ScaleShiftConfig()) for o in NORM_OPERATIONS]
    wanted += [Placement(o, BiasConfig()) for o in OUTSIDE_OPERATIONS]
    design = Design(tuple(p for p in wanted if misplaced(Design((p,)), shape) is None))
    with torch.device("meta"):
        tuned = TunedModel(model, design, CLASSES)
    counted = sum(p.numel() for p in tuned.parameters_trained())
    assert counted == design.num_parameters(shape, CLASSES), (type(model).__name__, counted)


def told(shape: BackboneShape) -> str:
    """Blocks and widths of a backbone, and the operations that it lacks."""
    widths = "-".join(str(stage.dim) for stage in shape.stages) or str(shape.dim)
    blocks = "+".join(str(stage.blocks) for stage in shape.stages) or str(shape.depth)
    sharing = sum(stage.blocks for stage in shape.stages if stage.kv_heads)
    if sharing:  # so stages are of one width
        widths, blocks = str(shape.dim), str(shape.depth)
    lacks = [o for o in OPERATIONS if o in shape.lacks]
    shared = f"; queries share keys in {sharing}" if sharing else ""
    return f"{blocks} blocks, {widths} wide{shared}" + (f"; no {', '.join(lacks)}" if lacks else "")


def tables_of(modules: Iterable[str]) -> dict[str, list[Row]]:
    """The rows of each module."""
    return {module: [row(n, tags) for n, tags in architectures(module).items()] for module in modules}


def page(tables: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """The lines of the page."""
    everything = timm.list_models(pretrained=True)
    carried = sum(len(r.tags) for rows in tables.values() for r in rows if r.carries)
    looked_at = sum(len(r.tags) for rows in tables.values() for r in rows)
    share, others = f"{carried / len(everything):.0%}", len(everything) - looked_at
    yield "# Names of backbones"
    yield ""
    yield "Written by `python benchmarks/backbone_names.py`, which makes each architecture on the meta device."
    yield ""
    known = f"{len(everything):,} pretrained names of timm {timm.__version__}"
    yield f"Of the {known}, {carried:,} ({share}) can carry tuners."
    yield f"The {others:,} names of timm's other modules are of no family here, and are refused by their class."
    yield ""
    yield "| timm's module | names with tuners |"
    yield "|---|---|"
    for module, rows in tables.items():
        yield f"| `{module}` | {sum(len(r.tags) for r in rows if r.carries)} of {sum(len(r.tags) for r in rows)} |"
    for module, rows in tables.items():
        yield from ("", f"## {module}", "", HEAD, "|---|---|---|---|")
        yield from map(str, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--only", help="modules of timm, with commas; prints their page and writes nothing")
    arguments = parser.parse_args()
    if arguments.only:
        print("\n".join(page(tables_of(arguments.only.split(",")))))
        return
    arguments.out.write_text("\n".join(page(tables_of(MODULES))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
