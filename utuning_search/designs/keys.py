"""Keys of designs: what training seeds, reuse and finals hang on, so equal designs keep theirs over versions.

Scheme 1 hashes a design's table, each placement with its operation, tuner, form, scale, blocks and options. What
came after the scheme, an option of a tuner or a field of placements or designs, is left out at its default: who gains
one gives no design another key. What has a default and was there before is written out in full, as it always was; so
no recorded key, and no seed that was derived from one, ever changes, and changing a default later cannot give two
different designs one key.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any, Protocol

from utuning_search.designs.placement import Placement
from utuning_search.tuners import TunerConfig

SCHEME = 1
DIGITS = 12
KEPT = 8192  # placements whose texts are kept: a search makes designs of the same ones again and again
# Options with a default that scheme 1 writes out, by kind of tuner. Nothing is ever added here: what comes later is
# hashed only where it differs from its default.
WRITTEN: Mapping[str, frozenset[str]] = {
    "adapter": frozenset({"activation"}),
    "conv": frozenset({"depthwise"}),
    "experts": frozenset({"dropout"}),
    "prefix": frozenset({"reading"}),
    "prompt": frozenset({"reading"}),
}
# What scheme 1 writes of a placement besides the tuner's options.
PLACED = ("operation", "tuner", "form", "scale", "blocks")
# What it writes of a design: both in their own way.
DESIGNED = ("placements", "learning_rate")


class Keyed(Protocol):
    """A design, in canonical form."""

    @property
    def placements(self) -> tuple[Placement, ...]: ...

    @property
    def learning_rate(self) -> float | None: ...


def key(design: Keyed) -> str:
    """Twelve hexadecimal digits that are equal for equal designs, in this version and in later ones."""
    table = {name: _text(value) for name, value in _later(design, DESIGNED).items()}
    table["placements"] = f"[{', '.join(_placement_text(p, repr(p)) for p in design.placements)}]"
    if design.learning_rate is not None:
        table["learning_rate"] = _text(design.learning_rate)
    canonical = ", ".join(f"{_text(name)}: {table[name]}" for name in sorted(table))
    return hashlib.sha256(f"{{{canonical}}}".encode()).hexdigest()[:DIGITS]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@lru_cache(maxsize=KEPT)
def _placement_text(placement: Placement, written: str) -> str:
    """`written` tells apart what is equal and not the same text, such as 1 and 1.0 in a tuner of somebody else."""
    del written
    return _text(_hashed(placement))


def _hashed(placement: Placement) -> dict[str, Any]:
    table = placement.to_dict()
    return {**{name: table[name] for name in PLACED}, **_options(placement.tuner), **_later(placement, PLACED)}


def _later(value: Any, written: Collection[str]) -> dict[str, Any]:
    """The fields of a dataclass that scheme 1 does not write, where they differ from their default."""
    found = {}
    for field in fields(value):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name not in written and getattr(value, field.name) != default:
            found[field.name] = getattr(value, field.name)
    return found


def _options(tuner: TunerConfig) -> dict[str, Any]:
    written = WRITTEN.get(tuner.kind, frozenset())
    return {**{n: v for n, v in tuner.options().items() if n in written}, **_later(tuner, written)}
