"""`export`: a trial's tuner as a folder that loads in three lines."""

import argparse
import shlex
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.options import EXPORTS
from utuning_search.cli.streams import say
from utuning_search.cli.studies import load_study
from utuning_search.common.errors import InputError
from utuning_search.common.text import python_string
from utuning_search.results.card import USED
from utuning_search.results.export import export_trial
from utuning_search.results.export_peft import export_peft
from utuning_search.results.pick import pick_trial
from utuning_search.results.verdicts import kept_advice


def run(arguments: argparse.Namespace) -> int:
    if arguments.format not in EXPORTS:
        raise InputError("--format", f"format is one of {', '.join(EXPORTS)}", f"'{arguments.format}'")
    study = load_study(arguments)
    record = pick_trial(study.trials(), arguments.pick, study.objectives)
    peft = arguments.format == "peft"
    name = f"trial_{record.number}" + ("_peft" if peft else "")
    out = Path(arguments.out) if arguments.out else study.folder / "exports" / name
    if peft:
        lines = export_peft(study, record, out)
        console.print(f"Trial {record.number}: {record.design}", **PLAIN)
        say("\n" + "\n".join(lines))
        return 0
    difference = export_trial(study, record, out, arguments.data_dir)
    console.print(f"Trial {record.number}: {record.design}", **PLAIN)
    quality = study.objectives.quality
    console.print(
        f"{quality.text(record.values[quality.name])} {quality.label}, {record.parameters:,} parameters; "
        f"loaded again, its logits differ from the trial's by at most {difference:.1e}.",
        **PLAIN,
    )
    better = kept_advice(study.folder, record.key)
    if better:
        console.print(f"Note: on the test images {better}.", **PLAIN)
    where = ', data_dir="DATA_DIR"' if study.spec.task.backbone.checkpoint else ""
    say(f"\nfrom utuning_search import load_tuned\nmodel = load_tuned({python_string(out)}{where})")
    say(USED)
    more = " --data-dir DATA_DIR" if where else ""
    say(f"\nutuning-search predict {shlex.quote(str(out))} photo.jpg{more}")
    return 0
