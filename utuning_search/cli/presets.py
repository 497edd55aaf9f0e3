"""`presets`: the known methods, and their sizes beside those that papers print."""

import argparse
from dataclasses import asdict

from rich.table import Table

from utuning_search.cli.console import console, listing
from utuning_search.cli.json_output import say_json
from utuning_search.cli.options import JSON, LISTED, check_format
from utuning_search.designs.design import Design
from utuning_search.designs.paper_sizes import PAPER_SIZES, VIT_B
from utuning_search.designs.presets import PRESETS, Preset, preset


def run(arguments: argparse.Namespace) -> int:
    check_format(arguments.format, LISTED)
    if arguments.format == JSON:
        say_json(_plain(arguments))
    elif arguments.sizes:
        console.print(_sizes())
    elif arguments.name:
        _explain(preset(arguments.name))
    else:
        table = listing("preset", "method", "options", "tuners on ViT-B/16", "reference")
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


def _plain(arguments: argparse.Namespace) -> object:
    """What --format json prints: one method, or all; of --sizes the rows of its table."""
    if arguments.sizes:
        return [
            {
                "preset": row.preset,
                "title": preset(row.preset).title,
                "options": row.options,
                "printed": row.printed,
                "computed": row.computed,
                "classes": row.classes,
                "source": row.source,
                "remark": row.remark,
            }
            for row in PAPER_SIZES
        ]
    return _entry(preset(arguments.name)) if arguments.name else [_entry(known) for known in PRESETS]


def _entry(known: Preset) -> dict[str, object]:
    return {
        "name": known.name,
        "title": known.title,
        "options": known.options,
        "placements": [placement.to_dict() for placement in known.placements()],
        "tuner_parameters_vit_b": Design.preset(known.name).num_parameters(VIT_B),
        "references": [asdict(reference) for reference in known.references],
        "note": known.note,
        "published_on": known.published_on,
    }


def _explain(known: Preset) -> None:
    console.print(f"{known.name}: {known.title}", highlight=False)
    for option, value in known.options.items():
        console.print(f"  {option} = {value}", highlight=False)
    for placement in known.placements():
        console.print(f"  {placement}", highlight=False, soft_wrap=True)
    size = Design.preset(known.name).num_parameters(VIT_B)
    console.print(f"Trainable parameters on ViT-B/16, without a head: {size:,}", highlight=False)
    on = " and ".join(known.published_on)
    console.print(f"As published on {on}; on other backbones it is our reading.", highlight=False, soft_wrap=True)
    if known.note:
        console.print(f"Note: {known.note}.", highlight=False, soft_wrap=True)
    console.print("\n\n".join(r.bibtex() for r in known.references), highlight=False)


def _sizes() -> Table:
    table = listing("method", "preset", "printed (M)", "computed", "head", "printed by", "remark")
    for row in PAPER_SIZES:
        options = ":".join(["", *(f"{k}={v}" for k, v in row.options.items())])
        head = "none" if not row.classes else f"{row.classes:.4g} classes"
        computed = f"{row.rounded} ({row.computed:,.0f})"
        table.add_row(
            preset(row.preset).title, row.preset + options, row.printed, computed, head, row.source, row.remark
        )
    return table
