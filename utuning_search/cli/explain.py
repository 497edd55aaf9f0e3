"""`spaces`, `tasks`, `presets`, `tuners`: what there is to choose from."""

import argparse
from typing import Any

from rich.table import Table

from utuning_search.cli.display import PLAIN, console
from utuning_search.cli.options import positive
from utuning_search.common.bundled import bundled, find
from utuning_search.designs.design import Design
from utuning_search.designs.paper_sizes import PUBLISHED, VIT_B
from utuning_search.designs.presets import PRESETS, Preset, preset
from utuning_search.designs.spaces.domains import Choice, Domain
from utuning_search.designs.spaces.space import Space
from utuning_search.training.task import Task
from utuning_search.tuners import TUNERS

DEPTH = 12  # of the ViT-Ti, -S and -B that most users bring


def add_commands(commands: Any) -> None:
    spaces = commands.add_parser("spaces", help="list the search spaces, or explain one")
    spaces.add_argument("name", nargs="?", metavar="SPACE", help="a bundled space or a .toml file")
    spaces.add_argument("--depth", type=int, default=DEPTH, metavar="N", help="of the backbone (default: 12)")
    spaces.set_defaults(run=spaces_command)
    tasks = commands.add_parser("tasks", help="list the tasks, or explain one")
    tasks.add_argument("name", nargs="?", metavar="TASK", help="a bundled task or a .toml file")
    tasks.set_defaults(run=tasks_command)
    presets = commands.add_parser("presets", help="list the known methods, or explain one")
    presets.add_argument("name", nargs="?", metavar="PRESET", help="explain one")
    presets.add_argument("--sizes", action="store_true", help="their sizes beside those that papers print")
    presets.set_defaults(run=presets_command)


def spaces_command(arguments: argparse.Namespace) -> int:
    positive(arguments.depth, "--depth")
    if arguments.name:
        _explain(Space.load(arguments.name), arguments)
        return 0
    table = _table("space", "variables", "designs", "paper", "cost", "what it covers")
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


def tasks_command(arguments: argparse.Namespace) -> int:
    if arguments.name:
        console.print(find("task", arguments.name).read_text(encoding="utf-8"), **PLAIN)
        return 0
    table = _table("task", "backbone", "data", "proxy / validation", "epochs", "what it is")
    for name in bundled("task"):
        task = Task.load(name)
        split = f"{task.data.proxy} / {task.data.validation}"
        data = task.data.dataset or task.data.source
        table.add_row(name, task.backbone.name, data, split, str(task.recipe.epochs), task.description)
    console.print(table)
    console.print("Source, licence, layout and cost of one: utuning-search tasks NAME")
    return 0


def presets_command(arguments: argparse.Namespace) -> int:
    if arguments.sizes:
        console.print(_sizes())
    elif arguments.name:
        _explain_preset(preset(arguments.name))
    else:
        table = _table("preset", "method", "options", "tuners on ViT-B/16", "reference")
        for known in PRESETS:
            options = " ".join(f"{k}={v}" for k, v in known.options.items())
            size = Design.preset(known.name).num_parameters(VIT_B)
            source = str(known.references[0]) if known.references else ""
            table.add_row(known.name, known.title, options, f"{size:,}", source)
        console.print(table)
        console.print(
            "Explain one: utuning-search presets NAME. Against the papers' tables: utuning-search presets --sizes"
        )
    return 0


def _explain_preset(known: Preset) -> None:
    console.print(f"{known.name}: {known.title}", highlight=False)
    for option, value in known.options.items():
        console.print(f"  {option} = {value}", highlight=False)
    for placement in known.placements():
        console.print(f"  {placement}", highlight=False, soft_wrap=True)
    size = Design.preset(known.name).num_parameters(VIT_B)
    console.print(f"Trainable parameters on ViT-B/16, without a head: {size:,}", highlight=False)
    if known.note:
        console.print(f"Note: {known.note}.", highlight=False, soft_wrap=True)
    console.print("\n\n".join(r.bibtex() for r in known.references), highlight=False, markup=False)


def _sizes() -> Table:
    table = _table("method", "preset", "printed (M)", "computed", "head", "printed by", "remark")
    for row in PUBLISHED:
        options = ":".join(["", *(f"{k}={v}" for k, v in row.options.items())])
        head = "none" if not row.classes else f"{row.classes:.4g} classes"
        computed = f"{row.rounded} ({row.computed:,.0f})"
        table.add_row(
            preset(row.preset).title, row.preset + options, row.printed, computed, head, row.source, row.remark
        )
    return table


def _explain(space: Space, arguments: argparse.Namespace) -> None:
    variables = space.variables(arguments.depth)
    size = f"{_size(space.size(arguments.depth))} designs"
    console.print(f"[bold]{space.name}[/]: {space.description}")
    console.print(
        f"{size} and {len(variables)} search variables for a backbone of {arguments.depth} blocks; {_cost(space.name)}"
    )
    if space.reference is not None:
        console.print(f"Reference: {space.reference}", highlight=False, soft_wrap=True)
    console.print(f"Tried first: {', '.join(p.name for p in space.presets) or 'nothing'}\n")
    table = _table("variable", "values", "exists if")
    for variable in variables:
        table.add_row(variable.name, _values(variable.domain), variable.exists_if)
    console.print(table)
    kinds = {v.kind for slot in space.slots for v in slot.variants}
    console.print()
    for tuner in TUNERS:
        if tuner.kind in kinds:
            console.print(f"{tuner.kind}: {tuner.summary} ({'; '.join(map(str, tuner.references))})", highlight=False)


def _table(name: str, *columns: str) -> Table:
    """A table whose first column is what one types, so it is never cut off; the others wrap."""
    table = Table(box=None, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _values(domain: Domain) -> str:
    if isinstance(domain, Choice):
        return ", ".join(map(str, domain.values))
    return f"{domain.low:g} to {domain.high:g}" + (" (log)" if domain.log else "")


def _size(size: int) -> str:
    return f"{size:,}" if size < 1_000_000 else f"{size:.1e}"


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
