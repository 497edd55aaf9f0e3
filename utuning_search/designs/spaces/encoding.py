"""Whether slots hold a design, and by which values of their variables: the inverse of suggesting one.

No search is needed: slots and their alternatives place different tuners (`parsing.py` refuses others), so what is
placed tells which slot placed it. What is not placed has two spellings where blocks are switched on and off, a tuner
of "none" and a row of switches that are off; the first is given where the slot has it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from utuning_search.designs import block_sets
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Choice, Value
from utuning_search.designs.spaces.slot import Slot, Variant
from utuning_search.tuners import Form, Scale, TunerConfig


class Atom(NamedTuple):
    """What a placement puts into one cell, the place apart."""

    tuner: TunerConfig
    form: Form
    scale: Scale


Cell = tuple[str, int]  # operation and block
Atoms = Mapping[Cell, list[Atom]]
Params = dict[str, Value]


def explain(slots: Sequence[Slot], design: Design, depth: int) -> Params | None:
    """Values of the slots' variables that give a resolved design's placements; None where there are none."""
    atoms: dict[Cell, list[Atom]] = {}
    for placement in design.placements:
        atom = Atom(placement.tuner, cast(Form, placement.form), placement.scale)
        for block in placement.block_numbers():
            atoms.setdefault((placement.operation, block), []).append(atom)
    params: Params = {}
    idle: Params = {}  # values that decide nothing, unless another slot shares the variable
    for slot in slots:
        found = _explain(slot, atoms, depth)
        if found is None:
            return None
        values, placed = found
        if any(params.get(name, value) != value for name, value in values.items()):
            return None  # slots disagree about a shared variable
        params.update(values)
        for cell, atom in placed:
            atoms[cell].remove(atom)
        if not placed and slot.switched:
            idle.update(_idle(slot, values, depth))
    return None if any(atoms.values()) else idle | params


def _explain(slot: Slot, atoms: Atoms, depth: int) -> tuple[Params, list[tuple[Cell, Atom]]] | None:
    """The variables' values of one slot, and what it placed where; None where no values place that."""
    found = list(_placed(slot, atoms, depth))
    if not found:
        none = next((v for v in slot.variants if v.kind is None), None)
        if none is None and slot.switched:
            off: Params = {leaf.variable: False for leaf in slot.switches(depth).values()}
            return {**_tuner(slot, slot.variants[0]), **off}, []
        return None if none is None else (_tuner(slot, none), [])
    variant, _, atom = found[0]
    if any(other != atom for _, _, other in found):
        return None
    cells = {cell for _, cell, _ in found}
    leaves = slot.choices(variant, depth)
    for label, group in zip(slot.operation_labels(), slot.operations, strict=True):
        for named, blocks in _block_sets(slot, variant, depth, {block for _, block in cells}):
            if len(group) * len(blocks) == len(cells) and all((o, b) in cells for o in group for b in blocks):
                chosen: dict[str, object] = {"operation": label, "form": atom.form, "scale": atom.scale}
                chosen |= named | atom.tuner.options()
                values = {v.variable: cast(Value, chosen[key]) for key, v in leaves.items() if v.domain.size != 1}
                return {**_tuner(slot, variant), **values}, [(cell, atom) for cell in cells]
    return None


def _placed(slot: Slot, atoms: Atoms, depth: int) -> Iterator[tuple[Variant, Cell, Atom]]:
    """The atoms that only this slot can have placed, each with the variant that did."""
    operations = {operation for group in slot.operations for operation in group}
    near = [(cell, atom) for cell, placed in atoms.items() if cell[0] in operations for atom in placed]
    for variant in slot.variants:
        fitting = [(cell, atom) for cell, atom in near if _fits(slot, variant, atom)]
        if fitting:
            blocks = {b for _, found in _block_sets(slot, variant, depth, range(1, depth + 1)) for b in found}
            yield from ((variant, cell, atom) for cell, atom in fitting if cell[1] in blocks)


def _block_sets(
    slot: Slot, variant: Variant, depth: int, wanted: Collection[int]
) -> Iterator[tuple[dict[str, Value], Collection[int]]]:
    """The choices that name a set of blocks, and the set: one a pattern; with switches, the wanted blocks."""
    if slot.switched:
        yield {key: block in wanted for block, key in enumerate(slot.switches(depth), start=1)}, wanted
        return
    for pattern in cast(Choice, slot.choices(variant, depth)["blocks"].domain).values:
        yield {"blocks": pattern}, block_sets.resolve(str(pattern), depth, slot.name)


def _idle(slot: Slot, values: Params, depth: int) -> Params:
    """Any value for what is chosen beside switches that are off; nothing where the tuner is "none"."""
    if any(variant.kind is None for variant in slot.variants):
        return {}
    leaves = slot.choices(slot.variants[0], depth).values()
    firsts = {v.variable: v.domain.values[0] if isinstance(v.domain, Choice) else v.domain.low for v in leaves}
    return {v.variable: firsts[v.variable] for v in leaves if v.domain.size != 1 and v.variable not in values}


def _tuner(slot: Slot, variant: Variant) -> Params:
    return {} if len(slot.variants) == 1 else {f"{slot.name}.tuner": variant.label}


def _fits(slot: Slot, variant: Variant, atom: Atom) -> bool:
    """Whether a variant can place an atom, wherever that is."""
    if atom.tuner.kind != variant.kind:
        return False
    options, free = atom.tuner.options(), slot.option_leaves(variant)
    fixed = {k: v for k, v in slot.smallest(variant).options().items() if k not in free}
    return (
        all(options[name] == value for name, value in fixed.items())
        and all(leaf.domain.contains(options[name]) for name, leaf in free.items())
        and atom.form in slot.forms(atom.tuner)
        and atom.scale in slot.scales(atom.tuner)
    )
