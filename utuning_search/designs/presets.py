"""Known methods by name, and with options as a command line or a spec writes them."""

import tomllib
from typing import Any, NamedTuple

from utuning_search.common.errors import InputError, nearest
from utuning_search.designs.known_methods import PRESETS, Placements, Preset

__all__ = ["PRESETS", "RATE", "Asked", "Preset", "parse_presets", "preset", "title_of"]

RATE = "learning_rate"  # an option of every known method

_BY_NAME = {p.name: p for p in PRESETS}
if len(_BY_NAME) < len(PRESETS):
    raise RuntimeError("two presets of one name are registered")


def preset(name: str) -> Preset:
    """The preset of a name; an error with the nearest known name otherwise."""
    if name not in _BY_NAME:
        raise InputError("preset", "the name is a known one", f"'{name}'", nearest(name, _BY_NAME))
    return _BY_NAME[name]


class Asked(NamedTuple):
    """A known method as somebody asked for it: its placements, and a peak learning rate, or None for the usual one."""

    placements: Placements
    learning_rate: float | None = None


def parse_presets(text: str) -> dict[str, Asked]:
    """Known methods by label for "name", "name:rank=4:scale=0.1", several of these with commas, or "all".

    Every method takes "learning_rate" besides options of its own. The label is the text itself, so that equal labels
    are equal designs.

    Raises:
        InputError: An unknown name or option, or an illegal value.
    """
    found: dict[str, Asked] = {}
    for part in (p.name for p in PRESETS) if text == "all" else text.split(","):
        name, *options = part.strip().split(":")
        pairs = [option.partition("=") for option in options]
        if any(not value for _, _, value in pairs):
            raise InputError(f"preset '{name}'", "options are written like name:rank=4", f"'{part}'")
        options_of: dict[str, Any] = {key: _value(value) for key, _, value in pairs}
        if len(options_of) < len(options):
            todo = "Which one is meant?"
            raise InputError(f"preset '{name}'", "each option is given once", f"'{part}'", todo)
        rate = _rate(name, options_of.pop(RATE, None))
        found[part.strip()] = Asked(preset(name).placements(**options_of), rate)
    return found


def title_of(label: str) -> str:
    """A label of `parse_presets` as a picture says it: "Adapter+ rank=4" for adapter-plus:rank=4, "SSF lr 0.01" for
    ssf:learning_rate=0.01; others stay."""
    name, *options = label.split(":")
    known = _BY_NAME.get(name)
    said = [option.replace(f"{RATE}=", "lr ") for option in options]
    return label if known is None else " ".join([known.short or known.title, *said])


def _rate(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e3:
        raise InputError(f"preset '{name}'", f"{RATE} is a number above 0", repr(value))
    return float(value)


def _value(text: str) -> str | int | float | bool:
    """An option's value as TOML would read it; other text is a string."""
    try:
        value: str | int | float | bool = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML; of numbers with thousands of digits, and of brackets
        return text
    return value
