"""What an exported tuner is as files: tuner.toml says everything but the weights. Neither timm nor data are needed."""

import tomllib
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design

TUNER_TOML, TUNER_WEIGHTS, README = "tuner.toml", "tuner.safetensors", "README.md"
FORMAT = 1
DEEPEST = 500  # blocks, which is more than backbones have
SHOWN = 200  # characters of what an error got


def read_design(folder: Path) -> tuple[Design, int]:
    """The design of an exported folder, and the depth of its backbone; neither weights nor backbone are loaded."""
    table = _read_table(folder)
    design = Design.from_dict(table["design"], str(folder / TUNER_TOML))
    last = max((block for p in design.placements for block in p.block_numbers()), default=1)
    shape = table.get("shape", {})  # the first exports did not keep it
    depth = shape.get("depth", last) if isinstance(shape, dict) else shape
    if not isinstance(depth, int) or not last <= depth <= max(DEEPEST, last):
        rule = f"the depth in shape is a number, {last} at least and {DEEPEST} at most"
        raise InputError(str(folder / TUNER_TOML), rule, repr(depth)[:SHOWN])
    return design, depth


def read_exported(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What tuner.toml holds, and the weights by name.

    Raises:
        InputError: Files are missing or damaged.
    """
    for name in (TUNER_TOML, TUNER_WEIGHTS):
        if not (folder / name).is_file():
            todo = "Make one with: utuning-search export NAME"
            raise InputError(f"exported tuner {folder}", f"{name} is in it", "no such file", todo)
    try:
        tensors = safetensors.torch.load_file(folder / TUNER_WEIGHTS)
    except Exception as error:
        raise InputError(
            f"exported tuner {folder}", "its files are readable", f"{type(error).__name__}: {error}"
        ) from None
    return _read_table(folder), tensors


def _read_table(folder: Path) -> dict[str, Any]:
    path = folder / TUNER_TOML
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise InputError(
            f"exported tuner {folder}", "its files are readable", f"{type(error).__name__}: {error}"
        ) from None
    if table.get("format") != FORMAT:
        raise InputError(str(path), f"its format is {FORMAT}", table.get("format"))
    for key, kind in (("classes", list), ("design", dict), ("backbone", dict)):
        if not isinstance(table.get(key), kind) or not table[key]:
            raise InputError(str(path), f"it holds {key}", repr(table.get(key)), "Export it again.")
    if not all(isinstance(name, str) for name in table["classes"]):
        raise InputError(str(path), "its classes are names", repr(table["classes"])[:SHOWN], "Export it again.")
    return table
