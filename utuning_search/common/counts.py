"""Counts in the field's shorthand: 650, 1.8k, 0.27M, 2.5G."""

import re

from utuning_search.common.errors import InputError

LONGEST = 100  # digits, which no float is too small for
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")


def parse_count(text: str, where: str) -> int:
    """A count such as 50000, 50k or 1.2M."""
    match = _COUNT.fullmatch(text)
    if match is None:
        raise InputError(where, "a count is a number such as 50000, 50k or 1.2M", f"'{text}'")
    if len(match[1]) > LONGEST:
        raise InputError(where, "a count is a number such as 50000, 50k or 1.2M", f"{len(match[1])} digits")
    return round(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}[match[2].lower()])


def short(value: float) -> str:
    """A count in shorthand: 650, 1.8k, 25k, 0.27M, 2.5G."""
    if value >= 1e9:
        return f"{value / 1e9:.2f}".rstrip("0").rstrip(".") + "G"
    if value >= 1e5:
        return f"{value / 1e6:.2f}".rstrip("0").rstrip(".") + "M"
    return f"{value / 1e3:.1f}".rstrip("0").rstrip(".") + "k" if value >= 1e3 else f"{value:.0f}"


def counted(number: int, what: str) -> str:
    """A number of things: 1 trial, 2 trials, 12,000 bytes."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
