"""Known methods by name, and with options as a command line or a spec writes them."""

import tomllib

from utuning_search.common.errors import InputError, nearest
from utuning_search.designs.known_methods import PRESETS, Placements, Preset

__all__ = ["PRESETS", "Preset", "parse_presets", "preset"]

_BY_NAME = {p.name: p for p in PRESETS}
if len(_BY_NAME) < len(PRESETS):
    raise RuntimeError("two presets of one name are registered")


def preset(name: str) -> Preset:
    """The preset of a name; an error with the nearest known name otherwise."""
    if name not in _BY_NAME:
        raise InputError("preset", "the name is a known one", f"'{name}'", nearest(name, _BY_NAME))
    return _BY_NAME[name]


def parse_presets(text: str) -> dict[str, Placements]:
    """Placements by label for "name", "name:rank=4:scale=0.1", several of these with commas, or "all".

    The label is the text itself, so that equal labels are equal designs.

    Raises:
        InputError: An unknown name or option, or an illegal value.
    """
    found: dict[str, Placements] = {}
    for part in (p.name for p in PRESETS) if text == "all" else text.split(","):
        name, *options = part.strip().split(":")
        pairs = [option.partition("=") for option in options]
        if any(not value for _, _, value in pairs):
            raise InputError(f"preset '{name}'", "options are written like name:rank=4", f"'{part}'")
        found[part.strip()] = preset(name).placements(**{key: _value(value) for key, _, value in pairs})
    return found


def _value(text: str) -> str | int | float | bool:
    """An option's value as TOML would read it; other text is a string."""
    try:
        value: str | int | float | bool = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value
