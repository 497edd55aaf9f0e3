"""Keys of designs: what training seeds, reuse and finals hang on, so equal designs keep theirs over versions.

Scheme 1 hashes a design's table, each placement with its operation, tuner, form, scale, blocks and options. Options
that came after the scheme are left out at their default: a tuner that gains one gives no design another key. Those
with a default that were there before are written out in full, as they always were; so no recorded key, and no seed
that was derived from one, ever changes, and changing a default later cannot give two different designs one key.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from utuning_search.designs.placement import Placement
from utuning_search.tuners import TunerConfig

SCHEME = 1
DIGITS = 12
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


def key(placements: Iterable[Placement], learning_rate: float | None) -> str:
    """Twelve hexadecimal digits of a design that are equal for equal designs, in this version and in later ones.

    Args:
        placements: In canonical form.
        learning_rate: The design's, or None where it leaves that to the task.
    """
    table: dict[str, Any] = {"placements": [_hashed(p) for p in placements]}
    if learning_rate is not None:
        table["learning_rate"] = learning_rate
    canonical = json.dumps(table, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]


def _hashed(placement: Placement) -> dict[str, Any]:
    table = placement.to_dict()
    return {**{name: table[name] for name in PLACED}, **_options(placement.tuner)}


def _options(tuner: TunerConfig) -> dict[str, Any]:
    written = WRITTEN.get(tuner.kind, frozenset())
    options = tuner.options()
    for field in fields(tuner):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if default is not MISSING and field.name not in written and options[field.name] == default:
            del options[field.name]
    return options
