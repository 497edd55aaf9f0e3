"""Which known method a design is nearest to, and what differs: "Adapter+ r=8, but parallel at attention"."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from utuning_search.designs import block_sets
from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement
from utuning_search.designs.presets import PRESETS, RATE, Preset
from utuning_search.tuners import Reference, Scale

# What a difference costs. Sizes cost nothing: a method is the same at any rank or length.
ALONE = 6  # a placement without a counterpart
OTHER_KIND = 2 * ALONE  # so that both are rather alone
READING, OPERATION, FORM, SCALE, BLOCKS, OPTION = 4, 3, 3, 1, 1, 1
NEW = 0.55  # share of the cost of having nothing in common at which a design is called new
SIZES = ("rank", "length", "terms", "groups", "parts", "embedding")
NAMED = (*SIZES, "reading", "depthwise")  # options that sizes and labels tell


@dataclass(frozen=True)
class Nearest:
    """The nearest known method.

    Attributes:
        preset: The method.
        differences: What differs besides sizes, a phrase each; empty where the design is that method.
        share: Cost of the differences as a share of having nothing in common, in [0, 1].
        sizes: Of the placements that have a counterpart in the method, such as "r=8".
    """

    preset: Preset
    differences: tuple[str, ...]
    share: float
    sizes: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether it has too little in common with any known method to be described as one."""
        return self.share > NEW

    def __str__(self) -> str:
        if self.is_new:
            return "new"
        name = " ".join([self.preset.title, "/".join(self.sizes)]).strip()
        return f"{name}, but {'; '.join(self.differences)}" if self.differences else name


def nearest_preset(design: Design, depth: int) -> Nearest:
    """The known method, at any size, that has most in common with a design on a backbone of `depth` blocks.

    Of equally near ones it is the first in the list of presets.
    """
    design = design.resolve(depth)
    found = [_compare(known, design, depth) for known in PRESETS]
    return min(found, key=lambda n: n.share)


def published(design: Design, depth: int) -> str:
    """The label, as of `presets.parse_presets`, of the known method that a design is, at whatever learning rate; or "".

    Its placements are those that were published, options and sizes included.
    """
    design = design.resolve(depth)
    known = next((p for p in PRESETS if Design(p.placements()).resolve(depth).placements == design.placements), None)
    if known is None:
        return ""
    return known.name if design.learning_rate is None else f"{known.name}:{RATE}={design.learning_rate:g}"


def references(design: Design, depth: int) -> tuple[Reference, ...]:
    """The papers of exactly the methods that a design uses: of the known method it is, then of its tuners."""
    wanted = Counter(map(_signature, design.resolve(depth).placements))
    known = (p for p in PRESETS if Counter(map(_signature, Design(p.placements()).resolve(depth).placements)) == wanted)
    own = next((p.references for p in known), ())
    return tuple(dict.fromkeys((*own, *design.references)))


def _signature(placement: Placement) -> tuple[object, ...]:
    """What placements have in common that differ in size at most."""
    options = {n: v for n, v in placement.tuner.options().items() if n not in NAMED}
    tuner = placement.tuner.kind, placement.tuner.label, tuple(sorted(options.items()))
    return tuner, placement.operation, placement.form, placement.scale, placement.blocks


def _compare(known: Preset, design: Design, depth: int) -> Nearest:
    from scipy.optimize import linear_sum_assignment  # not all who import this compare designs

    theirs, ours = Design(known.placements()).resolve(depth).placements, design.placements
    if not theirs or not ours:
        alike = len(theirs) == len(ours)
        return Nearest(known, () if alike else ("everything",), 0.0 if alike else 1.0)
    costs = np.array([[_cost(a, b, depth) for b in theirs] for a in ours])
    # Padded, so that any placement of either side may stay alone.
    padded = np.full((len(ours) + len(theirs),) * 2, float(ALONE))
    padded[: len(ours), : len(theirs)] = costs
    padded[len(ours) :, len(theirs) :] = 0
    rows, columns = linear_sum_assignment(padded)
    pairs = [(ours[i], theirs[j]) for i, j in zip(rows, columns, strict=True) if i < len(ours) and j < len(theirs)]
    share = float(padded[rows, columns].sum()) / (ALONE * (len(ours) + len(theirs)))
    extra = [p for p in ours if not any(p is a for a, _ in pairs)]
    missing = [p for p in theirs if not any(p is b for _, b in pairs)]
    return Nearest(known, (*_changes(pairs, depth), *_unmatched(extra, missing)), share, _sizes([a for a, _ in pairs]))


def _sizes(placements: Sequence[Placement]) -> tuple[str, ...]:
    """Their ranks and lengths, each once: r=8, l=10."""
    options = [p.tuner.options() for p in placements]
    return tuple(dict.fromkeys(f"{size[0]}={o[size]}" for o in options for size in SIZES if size in o))


def _cost(ours: Placement, theirs: Placement, depth: int) -> float:
    if ours.tuner.kind != theirs.tuner.kind:
        return OTHER_KIND
    return (
        READING * (ours.tuner.label != theirs.tuner.label)
        + OPERATION * (ours.operation != theirs.operation)
        + FORM * (ours.form != theirs.form)
        + OPTION * ((ours.form == "bypass") != (theirs.form == "bypass"))  # the farthest of forms
        + SCALE * (ours.scale != theirs.scale)
        + BLOCKS * (1 - _overlap(ours, theirs)) * (depth > 1)
        + OPTION * bool(_options(ours, theirs))
    )


def _overlap(a: Placement, b: Placement) -> float:
    ours, theirs = set(a.block_numbers()), set(b.block_numbers())
    return len(ours & theirs) / len(ours | theirs)


def _options(ours: Placement, theirs: Placement) -> list[str]:
    """Options besides sizes and readings that differ, with our values."""
    names = {f.name for f in fields(ours.tuner)} & {f.name for f in fields(theirs.tuner)}
    mine, other = ours.tuner.options(), theirs.tuner.options()
    return [f"{name} {mine[name]}" for name in sorted(names - {*NAMED}) if mine[name] != other[name]]


def _changes(pairs: Sequence[tuple[Placement, Placement]], depth: int) -> list[str]:
    """What differs within pairs; a difference that all share is said once."""
    said = [_phrases(ours, theirs, depth) for ours, theirs in pairs]
    common = [phrase for phrase in said[0] if all(phrase in other for other in said)] if said else []
    found = [" ".join(common)] if common else []
    for (_, theirs), phrases in zip(pairs, said, strict=True):
        own = [p for p in phrases if p not in common]
        if own:
            where = "" if len(pairs) == 1 else f"its {theirs.tuner.label} at {theirs.operation} "
            found.append(where + " ".join(own))
    return found


def _phrases(ours: Placement, theirs: Placement, depth: int) -> list[str]:
    found = []
    if ours.tuner.label != theirs.tuner.label:
        found.append(ours.tuner.named)
    if ours.form != theirs.form:
        found.append(str(ours.form))
    if ours.operation != theirs.operation:
        found.append(f"at {ours.operation}")
    if ours.scale != theirs.scale:
        found.append(_scale(ours.scale))
    found += [f"with {option}" for option in _options(ours, theirs)]
    if ours.blocks != theirs.blocks:
        found.append(_where(ours.block_numbers(), depth))
    return found


def _scale(scale: Scale) -> str:
    return "without a scale" if scale == "none" else f"×{scale:g}" if isinstance(scale, float) else f"×{scale}"


def _where(blocks: tuple[int, ...], depth: int) -> str:
    count = len(blocks)
    if blocks == tuple(range(1, depth + 1)):
        return "in all blocks"
    if count == 1:
        return f"in block {blocks[0]}"
    if blocks == tuple(range(depth - count + 1, depth + 1)):
        return f"in the last {count} blocks"
    if blocks == tuple(range(1, count + 1)):
        return f"in the first {count} blocks"
    return f"in blocks {block_sets.text(blocks)}"


def _unmatched(extra: Sequence[Placement], missing: Sequence[Placement]) -> list[str]:
    found = []
    if extra:
        found.append("with " + ", ".join(f"{_named(p)} at {p.operation}" for p in extra))
    if missing:
        found.append("without " + ", ".join(f"its {p.tuner.label} at {p.operation}" for p in missing))
    return found


def _named(placement: Placement) -> str:
    return " ".join(filter(None, [placement.tuner.named, placement.tuner.size_label]))
