"""`cite`: the BibTeX of exactly the methods that a design uses."""

import argparse
from pathlib import Path

from utuning_search.cli.streams import say
from utuning_search.common.errors import InputError, nearest
from utuning_search.designs.nearest import references
from utuning_search.designs.presets import PRESETS, preset
from utuning_search.results.exported import TUNER_TOML, read_design
from utuning_search.tuners import TUNERS, Reference


def run(arguments: argparse.Namespace) -> int:
    found = _references(arguments.what)
    if found:
        say("\n\n".join(reference.bibtex() for reference in found))
    else:
        say("% A linear probe has no tuner: nothing to cite.")
    return 0


def _references(what: str) -> tuple[Reference, ...]:
    folder = Path(what)
    if folder.is_dir() or (folder.name == TUNER_TOML and folder.is_file()):
        design, depth = read_design(folder if folder.is_dir() else folder.parent)
        return references(design, depth)
    if what in {p.name for p in PRESETS}:
        return preset(what).references
    if what not in TUNERS:
        known = {*(p.name for p in PRESETS), *TUNERS}
        rule = f"it is a preset, a tuner kind or a folder with a {TUNER_TOML}"
        raise InputError("cite", rule, f"'{what}'", nearest(what, known))
    return TUNERS[what].references
