"""Whether slots hold a design, and by which values of their variables: the inverse of suggesting one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from utuning_search import blocks as block_sets
from utuning_search.design import Design, Placement
from utuning_search.domains import Value
from utuning_search.slots import Slot, Variant

# What is placed, by (operation, block); the placements' own blocks are set to "all" so that they compare by content.
Atoms = Mapping[tuple[str, int], list[Placement]]
Params = dict[str, Value]


def explain(slots: Sequence[Slot], design: Design, depth: int) -> Params | None:
    """Values of the slots' variables that give a resolved design's placements; None where there are none."""
    atoms: dict[tuple[str, int], list[Placement]] = {}
    for placement in design.placements:
        for block in placement.block_numbers():
            atoms.setdefault((placement.operation, block), []).append(replace(placement, blocks="all"))
    return _explain(slots, atoms, {}, depth)


def _explain(slots: Sequence[Slot], atoms: Atoms, params: Params, depth: int) -> Params | None:
    """Backtrack over slots: choose for each what it placed, until every atom is accounted for once."""
    if not slots:
        return params if not any(atoms.values()) else None
    for new, left in _explanations(slots[0], atoms, depth):
        if all(params.get(name, value) == value for name, value in new.items()):
            found = _explain(slots[1:], left, {**params, **new}, depth)
            if found is not None:
                return found
    return None


def _explanations(slot: Slot, atoms: Atoms, depth: int) -> Iterator[tuple[Params, Atoms]]:
    """Each way in which a slot accounts for some atoms: its variables' values, and the atoms left over."""
    for variant in slot.variants:
        chosen: Params = {} if len(slot.variants) == 1 else {f"{slot.name}.tuner": variant.label}
        if variant.kind is None:
            yield chosen, atoms
            continue
        for label, group in zip(slot.operation_labels(), slot.operations, strict=True):
            for pattern in slot.patterns(slot.smallest(variant)):
                blocks = block_sets.resolve(pattern, depth, slot.name)
                cells = [(operation, block) for operation in group for block in blocks]
                for atom in atoms.get(cells[0], []):
                    values = _values(slot, variant, atom, label, pattern)
                    matches = [_like(atom, atoms.get(cell, [])) for cell in cells]
                    if values is not None and all(matches):
                        left = {cell: list(placed) for cell, placed in atoms.items()}
                        for cell, match in zip(cells, matches, strict=True):
                            left[cell].remove(match[0])
                        yield {**chosen, **values}, left


def _like(atom: Placement, placed: list[Placement]) -> list[Placement]:
    return [p for p in placed if (p.tuner, p.form, p.scale) == (atom.tuner, atom.form, atom.scale)]


def _values(slot: Slot, variant: Variant, atom: Placement, label: str, pattern: str) -> Params | None:
    """The slot's variables that give this atom, or None where it cannot."""
    if atom.tuner.kind != variant.kind:
        return None
    options, free = atom.tuner.options(), slot.option_leaves(variant)
    fixed = {k: v for k, v in slot.smallest(variant).options().items() if k not in free}
    fits = (
        all(options[name] == value for name, value in fixed.items())
        and all(leaf.domain.contains(options[name]) for name, leaf in free.items())
        and atom.form in slot.forms(atom.tuner)
        and atom.scale in slot.scales(atom.tuner)
    )
    if not fits:
        return None
    chosen = {**options, "operation": label, "blocks": pattern, "form": atom.form, "scale": atom.scale}
    leaves = slot.choices(variant)
    return {leaf.variable: cast(Value, chosen[key]) for key, leaf in leaves.items() if leaf.domain.size != 1}
