"""Sets of blocks: patterns such as "last 1/2" and explicit ones such as "1-4,7". Blocks count from 1."""

import math
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

from utuning_search.common.errors import InputError

RULE = 'blocks are "all", "first N", "last N", "every N" (N a number, or a part such as 1/2), or like "1-4,7"'
# Numbers of four digits at most: ranges are written out before a depth is known, and int() reads some thousands only.
_PATTERN = re.compile(r"(first|last|every) (\d{1,4})(?:/(\d{1,4}))?")
_RANGES = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")


def check_pattern(pattern: str, where: str) -> None:
    """Raise InputError unless `pattern` is well formed."""
    match = _PATTERN.fullmatch(pattern)
    if match:
        part = match[3] is not None
        fine = int(match[2]) >= 1 and (not part or (match[1] != "every" and int(match[2]) <= int(match[3])))
    else:
        fine = pattern == "all" or (_RANGES.fullmatch(pattern) is not None and all(a <= b for a, b in _runs(pattern)))
    if not fine:
        raise InputError(where, RULE, repr(pattern))


@lru_cache(maxsize=4096)
def resolve(pattern: str, depth: int, where: str) -> tuple[int, ...]:
    """The blocks, 1 to `depth` ascending, that a pattern names in a backbone of that depth.

    Parts are rounded up: "last 1/2" of 5 blocks is 3 blocks. A number beyond the depth is an error.
    """
    check_pattern(pattern, where)
    if pattern == "all":
        return tuple(range(1, depth + 1))
    match = _PATTERN.fullmatch(pattern)
    if match is None:
        if max(high for _, high in _runs(pattern)) > depth:  # before a long range is written out
            raise InputError(where, f"blocks match at least one of 1 to {depth}, and no other", repr(pattern))
        blocks = explicit(pattern)
    elif match[1] == "every":
        blocks = tuple(range(int(match[2]), depth + 1, int(match[2])))
    else:
        count = int(match[2])
        if match[3] is not None:
            count = math.ceil(Fraction(count, int(match[3])) * depth)
        if count > depth:
            raise InputError(where, f"blocks lie within the backbone's {depth}", repr(pattern))
        blocks = tuple(range(1, count + 1)) if match[1] == "first" else tuple(range(depth - count + 1, depth + 1))
    if not blocks or blocks[0] < 1 or blocks[-1] > depth:
        raise InputError(where, f"blocks match at least one of 1 to {depth}, and no other", repr(pattern))
    return blocks


def distinct(patterns: Sequence[str], depth: int, where: str) -> tuple[str, ...]:
    """The patterns to choose from in a backbone of that depth: for each set of blocks the first that names it.

    "every N" of fewer than N blocks names none and is left out; an error where no pattern is left.
    """
    matching = [p for p in patterns if not _names_none(p, depth)] or patterns
    first: dict[tuple[int, ...], str] = {}
    for pattern in matching:
        first.setdefault(resolve(pattern, depth, where), pattern)
    return tuple(first.values())


def names_one(pattern: str) -> bool:
    """Whether a pattern names a single block whatever the depth: a number, "first 1" or "last 1"."""
    return pattern.isdecimal() or pattern in ("first 1", "last 1")


def names_zero(pattern: str) -> bool:
    """Whether a list of numbers holds block 0, which no backbone has."""
    return _RANGES.fullmatch(pattern) is not None and any(low == 0 for low, _ in _runs(pattern))


def disjoint(a: str, b: str) -> bool:
    """Whether two patterns share no block at any depth; only lists of numbers are known to."""
    if _RANGES.fullmatch(a) is None or _RANGES.fullmatch(b) is None:
        return False
    return all(end < low or high < start for low, high in _runs(a) for start, end in _runs(b))


def text(blocks: Iterable[int]) -> str:
    """The explicit form of some blocks: (1, 2, 3, 7) is "1-3,7"."""
    runs: list[list[int]] = []
    for block in sorted(blocks):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def label(block: int) -> str:
    """A block's number as search variables spell it: "block_07"."""
    return f"block_{block:02d}"


def explicit(pattern: str) -> tuple[int, ...]:
    """The numbers of an explicit pattern such as "1-4,7"; empty for any other pattern."""
    if _RANGES.fullmatch(pattern) is None:
        return ()
    return tuple(sorted({n for low, high in _runs(pattern) for n in range(low, high + 1)}))


def _names_none(pattern: str, depth: int) -> bool:
    match = _PATTERN.fullmatch(pattern)
    return match is not None and match[1] == "every" and int(match[2]) > depth


def _runs(pattern: str) -> list[tuple[int, int]]:
    ends = [run.partition("-") for run in pattern.split(",")]
    return [(int(low), int(high or low)) for low, _, high in ends]
