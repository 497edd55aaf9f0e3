"""Options that several commands share, what options can be, and how their values are read."""

import argparse
import os
import re
from collections.abc import Sequence

from utuning_search.common.errors import InputError
from utuning_search.data.spec import SHOTS
from utuning_search.search.defaults import LOGGERS, TRIALS

SECONDS = {"s": 1, "m": 60, "h": 3600}
STORAGE = "OPTUNA_STORAGE"
ARTIFACTS = "UTUNING_ARTIFACTS"
WORKERS = "processes; 0 trains in this one (default: one a CPU core, or one a GPU)"
JSON = "json"  # a format of which nothing else is on standard output
LAUNCHERS = ("ray", "submitit")
FORMATS = ("table", JSON, "csv")  # of a front; the first is the default
LISTED = ("table", JSON)  # likewise, of spaces, tasks and presets
COMPARED = ("table", JSON)  # likewise, of finals
PREDICTIONS = ("table", "csv", JSON)  # likewise, of what a tuner says
SHOWN, BATCH = 1, 64  # classes of an image, and images at a time
SHELLS = ("bash", "zsh", "tcsh")  # that commands are completed in
TIME, SIZE = "10m", "100k"  # of a recommendation
UNKNOWN = 0.05  # share of known images that an export may call unknown
PORT = 8080  # of a dashboard
DEPTH = 12  # of the ViT-Ti, -S and -B that most users bring


def add_place(parser: argparse.ArgumentParser, *, name: bool) -> None:
    """Where a study lies."""
    if name:
        parser.add_argument("name", metavar="NAME", help="the study, a folder in --studies-dir")
    parser.add_argument("--studies-dir", default="studies", metavar="DIR", help="where studies lie (default: studies)")
    text = f"Optuna storage URL (default: ${STORAGE}, which `ps` does not show, else a journal in the study's folder)"
    parser.add_argument("--storage", default=os.environ.get(STORAGE), metavar="URL", help=text)
    text = (
        "where machines that share a study keep weights: a folder that all of them mount, or s3://BUCKET "
        f"(default: where it was created with, or ${ARTIFACTS})"
    )
    parser.add_argument("--artifacts", default=os.environ.get(ARTIFACTS), metavar="PLACE", help=text)


def add_running(parser: argparse.ArgumentParser) -> None:
    """How trials are run, and for how long."""
    parser.add_argument("--trials", type=int, metavar="N", help=f"stop at N trials in all (default: {TRIALS})")
    parser.add_argument("--epochs", type=int, metavar="N", help="stop at N trained epochs in all")
    parser.add_argument("--time", metavar="T", help="start no trial after T, such as 90s, 10m or 2h")
    parser.add_argument("--workers", type=int, metavar="N", help=WORKERS)
    parser.add_argument("--device", default=None, metavar="D", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--data-dir", metavar="DIR", help="where a task's relative paths start")
    text = (
        f"start --workers elsewhere and wait for them: {' or '.join(LAUNCHERS)} (extras of these names), with options "
        "such as submitit:slurm_partition=gpu,gpus_per_node=1; for a study in a PostgreSQL database"
    )
    parser.add_argument("--launcher", metavar="L", help=text)
    parser.add_argument("-q", "--quiet", action="store_true", help="no live display")
    add_log(parser)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Where else trials and finals are written."""
    text = f"write trials and finals there too, KIND of {', '.join(LOGGERS)}, such as tensorboard=runs; several times"
    parser.add_argument("--log", action="append", default=[], metavar="KIND=PLACE", help=text)


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """What a task is run on instead of its own backbone."""
    text = (
        "instead of the task's backbone: a timm vision transformer such as vit_base_patch16_224.orig_in21k, "
        "hf-hub:USER/MODEL[@REVISION], or the path of a folder with config.json"
    )
    parser.add_argument("--backbone", metavar="NAME", help=text)
    text = "a local file with its weights, .safetensors, .pth or .npz, absolute or in --data-dir (default: the hub's)"
    parser.add_argument("--checkpoint", metavar="FILE", help=text)
    text = "pixels; position embeddings are resampled (default: the task's; 0: the model's own)"
    parser.add_argument("--image-size", type=int, metavar="N", help=text)


def add_format(parser: argparse.ArgumentParser, known: Sequence[str]) -> None:
    """How a command says what it found; it calls `check_format` before anything else."""
    text = f"one of {', '.join(known)} (default: {known[0]}); of json nothing else is on standard output"
    parser.add_argument("-f", "--format", default=known[0], metavar="F", help=text)


def add_picture(parser: argparse.ArgumentParser, what: str) -> None:
    """A picture in a file."""
    text = f"draw {what} into FILE as well: .png, .pdf or .svg"
    parser.add_argument("--out", metavar="FILE", help=text)
    text = "of the picture, in mm; its text has the same size at any width (default: 160; a column of two has about 85)"
    parser.add_argument("--width", metavar="MM", help=text)
    parser.add_argument("--title", metavar="T", help="above the picture; '' for none (default: space and task)")


def check_format(value: str, known: Sequence[str]) -> None:
    """Refuse a format that a command does not have."""
    if value not in known:
        raise InputError("--format", f"format is one of {', '.join(known)}", f"'{value}'")


def image_size(value: int | None) -> int | None:
    """A size in pixels, or None."""
    if value is not None and value < 0:
        raise InputError("--image-size", "it is in pixels, or 0 for the model's own", value)
    return value


def seconds(text: str | None, option: str = "--time") -> float | None:
    """A duration such as 90s, 10m or 2h."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or float(match[1]) == 0:
        raise InputError(option, "a time is a number above 0 with s, m or h", f"'{text}'", f"For example: {option} 10m")
    return float(match[1]) * SECONDS[match[2]]


def workers(value: int | None) -> int | None:
    """A number of processes, or None."""
    if value is not None and value < 0:
        raise InputError("--workers", "it is at least 1, or 0 to train in this process", value)
    return value


def shots(value: int) -> int:
    """A number of training images a class."""
    if value not in SHOTS:
        raise InputError("--shots", f"it is one of {', '.join(map(str, SHOTS))}", value)
    return value


def positive(value: int | None, option: str) -> int | None:
    """The value, if it is at least 1 or not given."""
    if value is not None and value < 1:
        raise InputError(option, "it is at least 1", value)
    return value
