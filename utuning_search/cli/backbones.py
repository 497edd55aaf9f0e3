"""`backbones`: which families there are, and what one backbone is and lets be tuned; no weights are fetched."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from utuning_search.backbones.description import Description, Family, describe, families
from utuning_search.backbones.embedded.architecture import GLYPH_VIT
from utuning_search.backbones.opened import pinned
from utuning_search.backbones.origin import Origin, origin_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.cli.console import PLAIN, console, errors, listing
from utuning_search.cli.json_output import say_json
from utuning_search.cli.options import JSON, LISTED, check_format, image_size
from utuning_search.common.errors import InputError
from utuning_search.data.places import find_backbone
from utuning_search.tuners import BackboneShape

NAMES = (
    "Names: of timm, which timm.list_models() lists; hf-hub:USER/MODEL[@REVISION]; the path of a folder with "
    f"config.json; {GLYPH_VIT}, which is part of this package.\n"
    "Explain one: utuning-search backbones vit_base_patch16_224.orig_in21k"
)


def run(arguments: argparse.Namespace) -> int:
    check_format(arguments.format, LISTED)
    if arguments.name is None:
        if arguments.image_size is not None:
            raise InputError("--image-size", "it is given with the name of a backbone", arguments.image_size)
        return _list(arguments.format)
    spec, note = pinned(BackboneSpec(arguments.name, image_size=image_size(arguments.image_size) or 0))
    if note:
        errors.print(f"  note: {note}", **PLAIN)
    folder = None if arguments.data_dir is None else Path(arguments.data_dir)
    found = describe(find_backbone(spec, folder, "backbone"), spec.image_size or None)
    if arguments.format == JSON:
        say_json(_entry(spec, found, origin_of(spec.name)))
        return 0
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in _rows(spec, found, origin_of(spec.name)):
        table.add_row(*row)
    console.print(table)
    return 0


def _list(kind: str) -> int:
    if kind == JSON:
        say_json([_family(family) for family in families()])
        return 0
    table = listing("family", "operations", "tuners", "left out")
    for family in families():
        left = "; ".join(f"{k}: {why}" for k, why in family.left_out.items()) or "none"
        table.add_row(family.named, ", ".join(family.operations), ", ".join(family.tuners), left)
    console.print(table)
    console.print(NAMES, **PLAIN)
    return 0


def _rows(spec: BackboneSpec, found: Description, origin: Origin) -> Iterator[tuple[str, str]]:
    shape, how, family = found.shape, found.preprocessing, found.family
    yield "backbone", spec.exact
    yield "family", family.named + (f"; {found.class_name}, as {found.architecture}" if found.architecture else "")
    if origin.repository or origin.licence:
        yield "weights", ", ".join(part for part in (origin.repository, origin.licence) if part)
    gated = f", gated to {shape.hidden_in:,}" if shape.hidden_in != shape.hidden else ""
    if shape.stages:
        yield from _stages(shape)
    else:
        yield "blocks", f"{shape.depth}, {shape.dim:,} wide; MLP {shape.hidden:,}{gated}"
        yield "heads", f"{shape.num_heads} of {shape.head_dim}"
        rows, columns = shape.grid
        yield "tokens", f"{found.tokens:,}: {rows} x {columns} patches, and {found.prefix_tokens} before them"
    yield "parameters", f"{shape.parameters:,}, frozen"
    yield "images", f"{how.image_size} px, {how.channels} channel{'s' * (how.channels > 1)}, {how.interpolation}"
    yield "mean, std", f"{_numbers(how.mean)}; {_numbers(how.std)}"
    yield "crop", f"{how.crop:g} is its own, which crop = 0 in a task takes; by default the whole picture"
    yield "operations", ", ".join(family.operations)
    if family.lacks:
        yield "no operations", f"{', '.join(family.lacks)}: {'; '.join(dict.fromkeys(family.lacks.values()))}"
    yield "tuners", "; ".join(f"{kind} at {', '.join(places)}" for kind, places in family.tuners.items())
    yield "left out", "; ".join(f"{kind}: {why}" for kind, why in family.left_out.items()) or "no tuner"


def _stages(shape: BackboneShape) -> Iterator[tuple[str, str]]:
    """One row a stage, with the numbers of its blocks."""
    first = 1
    for number, stage in enumerate(shape.stages, start=1):
        last = first + stage.blocks - 1
        blocks = f"block {first}" if first == last else f"blocks {first}-{last}"
        heads = f", {stage.num_heads} head{'s' * (stage.num_heads > 1)} of {stage.head_dim}" if stage.num_heads else ""
        keys = f", {stage.kv_heads} of keys" if stage.kv_heads else ""
        wide = f"{stage.dim_in:,} to {stage.dim:,}" if stage.dim_in else f"{stage.dim:,}"
        rows, columns = stage.grid
        yield (
            f"stage {number}",
            f"{blocks}, {wide} wide{heads}{keys}; MLP {stage.hidden:,}; {rows} x {columns} patches",
        )
        first = last + 1


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _family(family: Family) -> dict[str, object]:
    return {
        "family": family.named,
        "operations": family.operations,
        "lacks": family.lacks,
        "tuners": family.tuners,
        "left_out": family.left_out,
    }


def _entry(spec: BackboneSpec, found: Description, origin: Origin) -> dict[str, object]:
    """What --format json prints of a backbone."""
    how = found.preprocessing
    return {
        "name": spec.name,
        "revision": spec.revision or None,
        "class": found.class_name,
        "architecture": found.architecture or None,
        "repository": origin.repository or None,
        "licence": origin.licence or None,
        "shape": found.shape.to_dict(),
        "prefix_tokens": found.prefix_tokens,
        "tokens": found.tokens,
        "image_size": how.image_size,
        "channels": how.channels,
        "mean": how.mean,
        "std": how.std,
        "interpolation": how.interpolation,
        "crop": how.crop,
        **_family(found.family),
    }
