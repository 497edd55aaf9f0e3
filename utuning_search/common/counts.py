"""Counts in the field's shorthand: 650, 1.8k, 270k, 2.5G."""

import re

from utuning_search.common.errors import InputError

LONGEST = 100  # digits, which no float is too small for
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")
_LETTERS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def parse_count(text: str, where: str) -> int:
    """A count such as 50000, 50k or 1.2M."""
    match = _COUNT.fullmatch(text)
    if match is None:
        raise InputError(where, "a count is a number such as 50000, 50k or 1.2M", f"'{text}'")
    if len(match[1]) > LONGEST:
        raise InputError(where, "a count is a number such as 50000, 50k or 1.2M", f"{len(match[1])} digits")
    return round(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}[match[2].lower()])


def short(value: float) -> str:
    """A count in shorthand, of three digits at most where it has a letter: 650, 1.8k, 25.1k, 270k, 1.25M, 2.5G."""
    letter = next((pair for pair in _LETTERS if float(f"{value:.3g}") >= pair[0]), None)
    if letter is None:
        return f"{value:.0f}"
    return f"{float(f'{value / letter[0]:.3g}'):g}{letter[1]}"


def counted(number: int, what: str) -> str:
    """A number of things: 1 trial, 2 trials, 12,000 bytes."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
