"""`export`: a trial's tuner as a folder that others load, in the format that is asked for."""

import argparse
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.streams import say
from utuning_search.cli.studies import load_study
from utuning_search.common.errors import InputError
from utuning_search.common.lazy import load
from utuning_search.results.exported import read_exported
from utuning_search.results.exports.formats import DEFAULT, HUB, exporter
from utuning_search.results.exports.unknown import check_rate
from utuning_search.results.pick import pick_trial
from utuning_search.results.threshold import UNKNOWN, Threshold
from utuning_search.results.verdicts import kept_advice

HOME = f"utuning_search.results.exports.{HUB}"  # imported only if it is asked for: it needs a library of its own


def run(arguments: argparse.Namespace) -> int:
    kind, repository = arguments.format, arguments.push
    if repository is not None and kind != HUB:
        raise InputError("--push", f"it goes with --format {HUB}", f"--format {kind}")
    if arguments.unknown is not None:
        if kind not in (DEFAULT, HUB):
            todo = f"Export it with --format {DEFAULT} too, and predict with that."
            raise InputError("--unknown", f"it goes with --format {DEFAULT} or {HUB}", f"--format {kind}", todo)
        check_rate(arguments.unknown)
    export = exporter(kind)
    if repository is not None:
        load(HOME, "check_push")(repository)
    study = load_study(arguments)
    record = pick_trial(study.trials(), arguments.pick, study.objectives)
    name = f"trial_{record.number}" + ("" if kind == DEFAULT else f"_{kind}")
    out = Path(arguments.out) if arguments.out else study.folder / "exports" / name
    given = {"repository": repository, "unknown": arguments.unknown}
    more = {name: value for name, value in given.items() if value is not None}
    written = export(study, record, out, arguments.data_dir, **more)
    console.print(f"Trial {record.number}: {record.design}", **PLAIN)
    quality = study.objectives.quality
    found = f"{quality.text(record.values[quality.name])} {quality.label}, {record.parameters:,} parameters"
    console.print(found + (f"; {written.checked}." if written.checked else "."), **PLAIN)
    if arguments.unknown is not None:
        said = str(Threshold.from_dict(read_exported(out)[0][UNKNOWN], UNKNOWN))
        console.print(f"{said[0].upper()}{said[1:]}.", **PLAIN)
    better = kept_advice(study.folder, record.key)
    if better:
        console.print(f"Note: on the test images {better}.", **PLAIN)
    say("\n" + "\n".join(written.lines))
    if written.command:
        say(f"\n{written.command}")
    if repository is not None:
        say(f"\nUploaded to {load(HOME, 'push')(out, repository)}")
    return 0
