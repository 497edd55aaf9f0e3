"""`front`, `export` and `repair`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from utuning_search.cli.display import PLAIN, console, front_lines
from utuning_search.cli.options import add_place
from utuning_search.common.errors import InputError
from utuning_search.results.export import PICKS, export_peft, export_trial, pick_trial
from utuning_search.results.pictures import save_front
from utuning_search.results.tables import NEAREST, front_table, write_tables
from utuning_search.search.storage import JOURNAL, repair_journal
from utuning_search.search.study import Study

FORMATS = ("table", "json", "csv")
EXPORTS = ("tuner", "peft")


def add_commands(commands: Any) -> None:
    front = commands.add_parser("front", help="show a study's Pareto front")
    add_place(front, name=True)
    front.add_argument("-f", "--format", default="table", metavar="F", help=f"one of {', '.join(FORMATS)}")
    front.add_argument("--png", metavar="FILE", help="draw the picture into FILE as well")
    front.set_defaults(run=front_command)

    export = commands.add_parser("export", help="write a tuner that loads in three lines")
    add_place(export, name=True)
    export.add_argument("--pick", default="knee", metavar="P", help=f"{PICKS} (default: knee)")
    export.add_argument("--out", metavar="DIR", help="folder to write (default: exports/TRIAL in the study's folder)")
    export.add_argument("-f", "--format", default="tuner", metavar="F", help="tuner, or peft (LoRA only)")
    export.add_argument("--data-dir", metavar="DIR", help="where the task's relative paths start")
    export.set_defaults(run=export_command)

    repair = commands.add_parser("repair", help="cut a damaged journal back to its last sound line")
    add_place(repair, name=True)
    repair.set_defaults(run=repair_command)


def front_command(arguments: argparse.Namespace) -> int:
    if arguments.format not in FORMATS:
        raise InputError("--format", f"format is one of {', '.join(FORMATS)}", f"'{arguments.format}'")
    if arguments.png and not Path(arguments.png).name:
        raise InputError("--png", "it names a file", f"'{arguments.png}'")
    study = _load(arguments)
    records = study.trials()
    write_tables(study)
    if arguments.png:
        save_front(records, f"{study.spec.space.name} on {study.spec.task.name}", Path(arguments.png))
    if arguments.format == "csv":
        sys.stdout.write(front_table(records, study.shape.depth).to_csv(index=False))
    elif arguments.format == "json":
        rows = [
            {**r.to_dict(), "design": r.design and r.design.to_dict(), NEAREST: near}
            for r, near in zip(study.front(), front_table(records, study.shape.depth)[NEAREST], strict=True)
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for line in front_lines(study, records):
            console.print(line)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    if arguments.format not in EXPORTS:
        raise InputError("--format", f"format is one of {', '.join(EXPORTS)}", f"'{arguments.format}'")
    study = _load(arguments)
    record = pick_trial(study.trials(), arguments.pick)
    peft = arguments.format == "peft"
    name = f"trial_{record.number}" + ("_peft" if peft else "")
    out = Path(arguments.out) if arguments.out else study.folder / "exports" / name
    if peft:
        lines = export_peft(study, record, out)
        console.print(f"Trial {record.number}: {record.design}", **PLAIN)
        print("\n" + "\n".join(lines))
        return 0
    difference = export_trial(study, record, out, arguments.data_dir)
    console.print(f"Trial {record.number}: {record.design}", **PLAIN)
    console.print(
        f"{100 * (record.accuracy or 0):.2f}% validation accuracy, {record.parameters:,} parameters; "
        f"loaded again, its logits differ from the trial's by at most {difference:.1e}.",
        **PLAIN,
    )
    where = ', data_dir="DATA_DIR"' if study.spec.task.backbone.checkpoint else ""
    print(f'\nfrom utuning_search import load_tuned\nmodel = load_tuned("{out}"{where})')
    print("logits = model(model.preprocess(images))  # uint8 images of (batch, channels, size, size)")
    return 0


def repair_command(arguments: argparse.Namespace) -> int:
    path = Path(arguments.studies_dir) / arguments.name / JOURNAL
    kept, cut = repair_journal(path)
    if cut:
        print(f"{path}: kept {kept} bytes, cut off {cut} into {path.with_suffix('.damaged').name}.")
        print(f"Go on with: utuning-search resume {arguments.name}")
    else:
        print(f"{path}: sound, nothing to repair.")
    return 0


def _load(arguments: argparse.Namespace) -> Study:
    return Study.load(arguments.name, studies_dir=arguments.studies_dir, storage=arguments.storage)
