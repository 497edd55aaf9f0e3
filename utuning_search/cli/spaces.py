"""`spaces`: which search spaces there are, and what one holds."""

import argparse
from decimal import Decimal

from rich.text import Text

from utuning_search.cli.console import console, listing
from utuning_search.cli.json_output import say_json
from utuning_search.cli.options import JSON, LISTED, check_format, positive
from utuning_search.common.bundled import bundled, find
from utuning_search.common.errors import InputError
from utuning_search.designs.spaces.domains import Choice, Domain
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import TUNERS

DEEPEST = 500  # blocks


def run(arguments: argparse.Namespace) -> int:
    check_format(arguments.format, LISTED)
    positive(arguments.depth, "--depth")
    if arguments.depth > DEEPEST:
        raise InputError("--depth", f"it is at most {DEEPEST}, which is more than backbones have", arguments.depth)
    if arguments.format == JSON:
        names = [arguments.name] if arguments.name else list(bundled("space"))
        entries = [_entry(Space.load(name), name, arguments.depth) for name in names]
        say_json(entries[0] if arguments.name else entries)
        return 0
    if arguments.name:
        _explain(Space.load(arguments.name), arguments)
        return 0
    table = listing("space", "variables", "designs", "paper", "cost", "what it covers")
    for name in bundled("space"):
        space = Space.load(name)
        size, count = space.size(arguments.depth), len(space.variables(arguments.depth))
        paper = "" if space.reference is None else space.reference.arxiv
        table.add_row(name, str(count), _size(size), paper, _cost(name), space.description)
    console.print(table)
    console.print(
        f"Designs and variables for a backbone of {arguments.depth} blocks. Explain one: utuning-search spaces full"
    )
    return 0


def _entry(space: Space, name: str, depth: int) -> dict[str, object]:
    """What --format json prints of a space."""
    return {
        "name": space.name,
        "description": space.description,
        "arxiv": None if space.reference is None else space.reference.arxiv,
        "presets": [known.name for known in space.presets],
        "depth": depth,
        "designs": str(Decimal(space.size(depth))),  # digits: no float is large enough for some
        "cost": _cost(name),
        "variables": [
            {
                "name": variable.name,
                "exists_if": variable.exists_if,
                "values": list(domain.values) if isinstance(domain, Choice) else None,
                "low": None if isinstance(domain, Choice) else domain.low,
                "high": None if isinstance(domain, Choice) else domain.high,
                "log": None if isinstance(domain, Choice) else domain.log,
            }
            for variable in space.variables(depth)
            for domain in [variable.domain]
        ],
    }


def _explain(space: Space, arguments: argparse.Namespace) -> None:
    variables = space.variables(arguments.depth)
    size = f"{_size(space.size(arguments.depth))} designs"
    console.print(Text.assemble((space.name, "bold"), f": {space.description}"))
    console.print(
        f"{size} and {len(variables)} search variables for a backbone of {arguments.depth} blocks; {_cost(space.name)}"
    )
    if space.reference is not None:
        console.print(f"Reference: {space.reference}", highlight=False, soft_wrap=True)
    console.print(f"Tried first: {', '.join(p.name for p in space.presets) or 'nothing'}\n")
    table = listing("variable", "values", "exists if")
    for variable in variables:
        table.add_row(variable.name, _values(variable.domain), variable.exists_if)
    console.print(table)
    kinds = {v.kind for slot in space.slots for v in slot.variants}
    console.print()
    for tuner in TUNERS.values():
        if tuner.kind in kinds:
            console.print(f"{tuner.kind}: {tuner.summary} ({'; '.join(map(str, tuner.references))})", highlight=False)


def _values(domain: Domain) -> str:
    if isinstance(domain, Choice):
        return ", ".join(map(str, domain.values))
    return f"{domain.low:g} to {domain.high:g}" + (" (log)" if domain.log else "")


def _size(size: int) -> str:
    return f"{size:,}" if size < 1_000_000 else f"{Decimal(size):.1e}"  # no float is large enough for some


def _cost(name: str) -> str:
    """The header line of a space's file that states its cost."""
    text = find("space", name).read_text(encoding="utf-8") if name in bundled("space") else ""
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    joined = " ".join(lines)
    return (
        joined.split("Cost on the task ")[1].rstrip(".").replace("`", "")
        if "Cost on the task " in joined
        else "cost unknown"
    )
