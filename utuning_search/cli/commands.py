"""The commands: what each is for and which options it takes. The module that does the work has the same name.

Light, so that help and mistakes are answered at once: what a command needs is imported only to run it.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass

from utuning_search.cli.options import (
    BATCH,
    COMPARED,
    DEPTH,
    FORMATS,
    LISTED,
    PORT,
    PREDICTIONS,
    SHELLS,
    SHOWN,
    SIZE,
    TIME,
    UNKNOWN,
    WORKERS,
    add_backbone,
    add_format,
    add_log,
    add_picture,
    add_place,
    add_running,
)
from utuning_search.data.spec import SHOTS
from utuning_search.results.defaults import FINALISTS, PICK, PICKS, SEEDS, TOP
from utuning_search.results.exports.formats import DEFAULT as EXPORT
from utuning_search.results.exports.formats import FORMATS as EXPORTS
from utuning_search.search.defaults import (
    METRICS,
    NAMES,
    OBJECTIVES,
    OWN_TASK,
    PRUNER,
    PRUNERS,
    SAMPLER,
    SAMPLERS,
    TASK,
)


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        help: One line, for the list of commands.
        add_options: Adds its options to its parser.
        description: For its own help; empty for the line of the list.
    """

    help: str
    add_options: Callable[[ArgumentParser], None]
    description: str = ""


def _run(parser: ArgumentParser) -> None:
    parser.add_argument("--space", default="full", metavar="S", help="a bundled space or a .toml file (default: full)")
    text = f"a bundled task or a .toml file (default: {TASK}, or {OWN_TASK} with --data)"
    parser.add_argument("--task", metavar="T", help=text)
    parser.add_argument("--data", metavar="PATH", help=f"your images instead of the task's: {DATA}")
    text = f"train on so many images of each class, {', '.join(map(str, SHOTS))}, in the search and in finals"
    parser.add_argument("--shots", type=int, metavar="N", help=text)
    text = "images of other kinds for the objective ood_auroc: a folder, absolute or in --data-dir, or bundled letters"
    parser.add_argument("--ood", metavar="FOLDER|letters", help=text)
    add_backbone(parser)
    parser.add_argument("--name", metavar="NAME", help="of the study (default: SPACE-TASK)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of proposals and training (default: 0)")
    text = f"one of {', '.join(SAMPLERS)} (default: {SAMPLER})"
    parser.add_argument("--sampler", default=SAMPLER, metavar="S", help=text)
    text = "try a known method first, such as adapter-plus:rank=4,ssf:learning_rate=0.01; several times, or all"
    parser.add_argument("--preset", action="append", default=[], metavar="P", help=text)
    text = "train no design with more trainable parameters, head included, such as 50000, 50k or 1.2M"
    parser.add_argument("--max-params", metavar="N", help=text)
    text = "the same for any objective that is exact before training, such as flops=3G; several times"
    parser.add_argument("--limit", action="append", default=[], metavar="O=N", help=text)
    text = f"what the front weighs, with commas: {', '.join(NAMES)} (default: {','.join(OBJECTIVES)})"
    parser.add_argument("--objectives", metavar="O", help=text)
    text = f"short for --objectives M,parameters, where M is {' or '.join(METRICS)} (default: {METRICS[0]})"
    parser.add_argument("--metric", metavar="M", help=text)
    text = f"what stops trials at rungs, one of {', '.join(PRUNERS)} (default: {PRUNER})"
    parser.add_argument("--pruner", default=PRUNER, metavar="P", help=text)
    parser.add_argument("--no-pruning", action="store_true", help="the same as --pruner none")
    parser.add_argument("--precision", default="auto", metavar="P", help="auto, fp32 or bf16 (default: auto)")
    add_place(parser, name=False)
    add_running(parser)


def _resume(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    add_running(parser)
    text = "try designs again that count as failed, once what was to blame is mended"
    parser.add_argument("--retry-failed", action="store_true", help=text)
    for option in ("--space", "--task", "--sampler"):
        parser.add_argument(option, metavar="X", help="refused with the difference if the study has another")
    add_backbone(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="likewise")


def _worker(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    text = "wait so long for a study that is not there yet or a server that is away, such as 10m (default: not at all)"
    parser.add_argument("--wait", metavar="T", help=text)
    add_running(parser)


def _confirm(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help=f"designs of the front (default: {TOP})")
    text = "confirm this trial, instead of the front and the strongest known methods; commas, or several times"
    parser.add_argument("--trial", action="append", default=[], metavar="N", help=text)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"trainings each (default: {SEEDS})")
    text = "confirm a known method too, such as adapter-plus:rank=4,ssf:learning_rate=0.01; several times, or all"
    parser.add_argument("--preset", action="append", default=[], metavar="P", help=text)
    parser.add_argument("--epochs", type=int, metavar="N", help="of each training (default: the task's)")
    text = f"judge by {', '.join(METRICS[:-1])} or {METRICS[-1]} (default: what the study weighs)"
    parser.add_argument("--metric", metavar="M", help=text)
    text = "train on the images as they are, without random crops and mirror images (8-pixel images have none)"
    parser.add_argument("--no-augment", action="store_true", help=text)
    text = "train them N times on the search's own split too: how much its choice flattered them on validation"
    parser.add_argument("--remeasure", type=int, metavar="N", help=text)
    text = "score the test images against a folder of images of other kinds, or the bundled letters; several times"
    parser.add_argument("--ood", action="append", default=[], metavar="FOLDER|letters", help=text)
    text = "measure accuracy on corrupted test images and with flipped bits of the tuner, too"
    parser.add_argument("--corruptions", action="store_true", help=text)
    text = "with --ood: score by how near frozen features are to training images, too (Dong et al. 2024)"
    parser.add_argument("--use", action="store_true", help=text)
    text = "with --ood: score by a head on tuned and frozen features, too (the same)"
    parser.add_argument("--dsgf", action="store_true", help=text)
    parser.add_argument("--workers", type=int, metavar="N", help=WORKERS)
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda or mps (default: the study's)")
    parser.add_argument("--data-dir", metavar="DIR", help="where the task's relative paths start")
    add_format(parser, COMPARED)
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing until it is done")
    add_log(parser)


def _recommend(parser: ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="PATH", help=f"your images: {DATA}")
    text = f"the most trainable parameters, head included, such as 50000, 50k or 1.2M (default: {SIZE})"
    parser.add_argument("--max-params", default=SIZE, metavar="N", help=text)
    text = f"for search and finals together, such as 90s, 10m or 2h (default: {TIME})"
    parser.add_argument("--time", default=TIME, metavar="T", help=text)
    add_backbone(parser)
    text = f"choose by {', '.join(METRICS[:-1])} or {METRICS[-1]} (default: {UNEQUAL})"
    parser.add_argument("--metric", metavar="M", help=text)
    text = "mirror images are as good as the images themselves: true of most photos, not of writing"
    parser.add_argument("--mirror", action="store_true", help=text)
    text = "for the tuner and its study; the same command goes on where one was stopped (default: recommended/NAME)"
    parser.add_argument("--out", metavar="FOLDER", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of proposals and training (default: 0)")
    parser.add_argument("--workers", type=int, metavar="N", help=WORKERS)
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing until it is done")
    add_log(parser)


def _front(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    add_format(parser, FORMATS)
    parser.add_argument("--png", metavar="FILE", help="the same as --out, but a PNG whatever its name")
    add_picture(parser, "it")


def _finals(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    add_picture(parser, "them")


def _report(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    parser.add_argument("--out", metavar="FILE", help="an .html file (default: report.html in the study's folder)")


def _compare(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs=2, metavar="NAME", help="a study, a folder in --studies-dir")
    add_place(parser, name=False)
    add_picture(parser, "them")


def _export(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    parser.add_argument("--pick", default=PICK, metavar="P", help=f"{PICKS} (default: {PICK})")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: exports/TRIAL in the study's folder)")
    text = "; ".join(f"{known.name}: {known.holds}" for known in EXPORTS.values())
    parser.add_argument("-f", "--format", default=EXPORT, metavar="F", help=f"{text} (default: {EXPORT})")
    text = f"let `predict --unknown` answer so for at most this share of known images (without a number: {UNKNOWN})"
    parser.add_argument("--unknown", nargs="?", type=float, const=UNKNOWN, metavar="RATE", help=text)
    text = "with --format hub: upload the folder to this repository, USER/NAME, of the Hugging Face hub"
    parser.add_argument("--push", metavar="REPO", help=text)
    parser.add_argument("--data-dir", metavar="DIR", help="where the task's relative paths start")


def _predict(parser: ArgumentParser) -> None:
    parser.add_argument("export", metavar="EXPORT", help="the folder of an exported tuner")
    text = "image files, and folders, whose images are taken with those in folders below"
    parser.add_argument("images", nargs="+", metavar="IMAGES", help=text)
    text = f"the N most likely classes of each (default: {SHOWN})"
    parser.add_argument("--top", type=int, default=SHOWN, metavar="N", help=text)
    text = f"one of {', '.join(PREDICTIONS)}; of csv and json nothing else is on standard output"
    parser.add_argument("-f", "--format", default=PREDICTIONS[0], metavar="F", help=text)
    text = "answer 'unknown' below the threshold of an `export --unknown`"
    parser.add_argument("--unknown", action="store_true", help=text)
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--batch-size", type=int, default=BATCH, metavar="N", help=f"at a time (default: {BATCH})")
    parser.add_argument("--data-dir", metavar="DIR", help="where the backbone's local checkpoint is looked up")
    parser.add_argument("--checkpoint", metavar="FILE", help="that file itself, wherever it is now")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _dashboard(parser: ArgumentParser) -> None:
    add_place(parser, name=True)
    text = f"where this machine finds it; 0 takes any that is free (default: {PORT})"
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=text)


def _repair(parser: ArgumentParser) -> None:
    add_place(parser, name=True)


def _spaces(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="SPACE", help="a bundled space or a .toml file")
    parser.add_argument("--depth", type=int, default=DEPTH, metavar="N", help=f"of the backbone (default: {DEPTH})")
    add_format(parser, LISTED)


def _tasks(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="TASK", help="a bundled task or a .toml file")
    add_format(parser, LISTED)


def _backbones(parser: ArgumentParser) -> None:
    text = "a timm model, hf-hub:USER/MODEL[@REVISION], the path of a folder with config.json, or glyph_vit"
    parser.add_argument("name", nargs="?", metavar="BACKBONE", help=text)
    parser.add_argument("--image-size", type=int, metavar="N", help="pixels (default: the model's own)")
    parser.add_argument("--data-dir", metavar="DIR", help="where the path of a folder starts")
    add_format(parser, LISTED)


def _presets(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="PRESET", help="explain one")
    parser.add_argument("--sizes", action="store_true", help="their sizes beside those that papers print")
    add_format(parser, LISTED)


def _cite(parser: ArgumentParser) -> None:
    text = "a preset, a tuner kind, or the folder of an exported tuner"
    parser.add_argument("what", metavar="NAME|FOLDER", help=text)


def _completion(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


DATA = (
    "a folder, PATH/<class>/** or PATH/train/<class>/** and PATH/test/<class>/**; a .csv with path,label[,split]; "
    "Parquet files, or a folder or quoted pattern of them"
)
UNEQUAL = f"{METRICS[0]}, or {METRICS[1]} where classes are unbalanced"
RECOMMEND = "from a folder of images to a tuner: make a task, search, confirm the best, export it"
CONFIRM = "train a front again on all training images, with several seeds, and test it"
CHOSEN = f"Designs of the front: {FINALISTS}; besides them the strongest known methods tried."
COMMANDS = {
    "run": Command("start a study", _run, "Search a space on a task; a new study."),
    "resume": Command("go on with a study", _resume, "Go on with a study; its spec cannot change, its budget can."),
    "worker": Command(
        "join a study in a PostgreSQL database, from any machine",
        _worker,
        "Join a study in a PostgreSQL database, from any machine that has its images. What is searched, on what and "
        "how long is the study's; images that are others are refused. After SIGTERM its trials are trained to the end "
        "of their epoch and given back with a checkpoint, and its exit code is 0. Once the study is done it helps to "
        "confirm it, if somebody does.",
    ),
    "confirm": Command(CONFIRM, _confirm, f"{CONFIRM[0].upper()}{CONFIRM[1:]}. {CHOSEN}"),
    "recommend": Command(RECOMMEND, _recommend, f"{RECOMMEND[0].upper()}{RECOMMEND[1:]}."),
    "front": Command("show a study's Pareto front", _front),
    "finals": Command("show what confirmations of a study found", _finals),
    "report": Command("write a study's report: one HTML file that needs no network", _report),
    "compare": Command("put two studies side by side", _compare),
    "export": Command("write a tuner that loads in three lines, here or without this package", _export),
    "predict": Command(
        "say what images show, with an exported tuner",
        _predict,
        "Say what images show, with an exported tuner. Images that cannot be read are named on standard error and left "
        "out; the exit code is 2 only if none could be read.",
    ),
    "dashboard": Command("open Optuna's dashboard on a study (extra: dashboard)", _dashboard),
    "repair": Command("leave out of a damaged journal what cannot be read", _repair),
    "spaces": Command("list the search spaces, or explain one", _spaces),
    "tasks": Command("list the tasks, or explain one", _tasks),
    "backbones": Command(
        "list the families of backbones, or explain one backbone",
        _backbones,
        "List the families of backbones, or explain one backbone: its numbers, how its images are prepared, and what "
        "can be tuned where. No weights are fetched.",
    ),
    "presets": Command("list the known methods, or explain one", _presets),
    "cite": Command("print the BibTeX of the methods that a design uses", _cite),
    "completion": Command(
        "print a script that completes commands in a shell",
        _completion,
        'Print a script that completes commands in a shell, such as for ~/.bashrc: eval "$(utuning-search completion '
        'bash)".',
    ),
}


def module_of(command: str) -> str:
    """The module whose `run(arguments)` does what a command is for, and returns its exit code."""
    return f"{__package__}.{command}"
