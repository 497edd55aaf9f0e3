"""JSON on standard output, for other programs: ASCII, and never NaN, which is no JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from utuning_search.cli.streams import say


def say_json(value: object) -> None:
    """Print a value: mappings, sequences, text, numbers, truths; numbers that are not finite and None become null."""
    say(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: object) -> Any:
    """The value as types that JSON has.

    Raises:
        TypeError: Something that it has no type for.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    raise TypeError(f"JSON has no type for {type(value).__name__}")
