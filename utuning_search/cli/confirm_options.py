"""The options of `confirm`: checked before a study is opened, and as whoever goes on has to give them again."""

import argparse
import shlex

from utuning_search.cli.options import COMPARED, JSON, check_format, positive
from utuning_search.common.errors import InputError
from utuning_search.data.outliers import check_given
from utuning_search.results.defaults import SEEDS, TOP
from utuning_search.results.metrics import checked

DIGITS = 18  # of a trial's number


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be.

    Raises:
        InputError: An option's value.
    """
    check_format(arguments.format, COMPARED)
    for option in ("top", "seeds", "epochs", "remeasure"):
        positive(getattr(arguments, option), f"--{option}")
    if arguments.metric is not None:
        checked(arguments.metric)
    for option in ("use", "dsgf"):
        if getattr(arguments, option) and not arguments.ood:
            raise InputError(f"--{option}", "it goes with --ood", "no --ood", "Give a folder of unknown images too.")
    check_given(arguments.ood)


def trials_of(given: list[str]) -> list[int]:
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if not name.isdecimal() or len(name) > DIGITS:  # int() reads no more than some thousands
            raise InputError("--trial", "it is the number of a complete trial in the study", f"'{name}'")
    return [int(name) for name in names]


def options_of(arguments: argparse.Namespace, **changed: int) -> str:
    """What was asked for, where it is not the default: whoever goes on has to ask for the same."""
    usual = {"top": TOP, "seeds": SEEDS, "epochs": None, "remeasure": None}
    usual |= {"metric": None, "workers": None, "device": None, "data_dir": None}
    given = {name: changed.get(name, getattr(arguments, name)) for name in usual}
    said = [
        f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in given.items()
        if value != usual[name]
    ]
    said += [f" --format {JSON}"] if arguments.format == JSON else []
    flags = ("no_augment", "corruptions", "use", "dsgf")
    said += [f" --{name.replace('_', '-')}" for name in flags if getattr(arguments, name)]
    said += [f" --ood {shlex.quote(one)}" for one in arguments.ood]
    said += [f" --trial {shlex.quote(t)}" for t in arguments.trial]
    return "".join([*said, *(f" --preset {shlex.quote(p)}" for p in arguments.preset)])
