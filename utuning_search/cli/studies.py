"""What commands on a study share: opening it, its files, and how one goes on with it."""

import argparse
import shlex
from collections.abc import Iterable
from typing import Any

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.streams import complain
from utuning_search.common.wording import printable
from utuning_search.data.survey import Survey
from utuning_search.designs.presets import title_of as method_of
from utuning_search.results.classes import per_class
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.outcomes import FINALS
from utuning_search.results.pictures.calibration import save_calibration
from utuning_search.results.pictures.confusion import MOST_CLASSES, save_confusion
from utuning_search.results.pictures.figure import Look
from utuning_search.results.pictures.finals import save_finals
from utuning_search.results.pictures.front import save_front
from utuning_search.results.sampling_error import validation_images
from utuning_search.results.shared_finals import fetch_finals
from utuning_search.results.tables import write_finals, write_tables
from utuning_search.search.layout import SPLITS
from utuning_search.search.storage import quiet_optuna
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

FRONT_PNG, FINALS_PNG, CONFUSION_PNG = "front.png", "finals.png", "_confusion.png"
CALIBRATION_PNG = "_calibration.png"
SHOWN = 3


def load_study(arguments: argparse.Namespace, **changed: Any) -> Study:
    """The study that the options of `options.add_place` name; `changed` as for `Study.load`."""
    quiet_optuna()
    place = {"studies_dir": arguments.studies_dir, "storage": arguments.storage, "artifacts": arguments.artifacts}
    study = Study.load(arguments.name, **place, **changed)
    fetch_finals(study)
    return study


def place_of(arguments: argparse.Namespace) -> str:
    """The options that another command needs to find the same study, with a space before; a URL may hold a password."""
    place = "" if arguments.studies_dir == "studies" else f" --studies-dir {shlex.quote(arguments.studies_dir)}"
    return place + (" --storage URL" if arguments.storage else "")


def title_of(study: Study) -> str:
    """What a picture of the study is headed by."""
    return f"{study.spec.space.name} on {study.spec.task.name}"


def write_results(study: Study, records: list[TrialRecord]) -> None:
    """Tables and picture of its trials, into its folder."""
    write_tables(study)
    look = Look(title_of(study))
    save_front(records, study.folder / FRONT_PNG, look, study.objectives, validation_images(study))


def write_confirmation(study: Study, found: Confirmation) -> None:
    """Tables and pictures of its finals: into its folder, and those of single finals into `finals` in it."""
    write_finals(study, found)
    for final in found.finals:
        sure = final.calibration
        if sure is not None:
            path = study.folder / FINALS / f"{final.key}{CALIBRATION_PNG}"
            save_calibration(sure, _titled(final), path)
    save_finals(found, study.folder / FINALS_PNG, Look(f"{title_of(study)}: finals"))
    for final in found.finals if len(found.classes) <= MOST_CLASSES else ():
        each = per_class(final, len(found.classes))
        if each is not None:
            path = study.folder / FINALS / f"{final.key}{CONFUSION_PNG}"
            save_confusion(each.confusion, found.classes, _titled(final), path)


def _titled(final: Final) -> str:
    seeds = "1 seed" if len(final.outcomes) == 1 else f"{len(final.outcomes)} seeds"
    return f"{method_of(final.finalist.preset) or final.finalist.name} on test images, {seeds}"


def warn_of_skipped(study: Study) -> None:
    """One line on images that could not be read, if there were any."""
    skipped = [f"{name} ({why})" for name, why in study.skipped().items()]
    if skipped:
        names = "; ".join(skipped[:SHOWN]) + (f"; all are named in {study.folder / SPLITS}" if skipped[SHOWN:] else "")
        images = "image that cannot be read was" if len(skipped) == 1 else "images that cannot be read were"
        complain(f"warning: {len(skipped)} {images} left out: {names}")


def say_notes(notes: Iterable[str]) -> None:
    """What is odd about images, or was done to them, a line each."""
    for note in notes:
        console.print(f"  note: {printable(note)}", **PLAIN)


def say_survey(found: Survey) -> None:
    """What is in the folder, before anything that takes time."""
    images, tested = sum(found.classes.values()), sum((found.test or {}).values())
    test = (
        f"{tested:,} for the test"
        if found.test is not None
        else f"{100 * found.held_out:.0f}% of each class for the test"
    )
    console.print(f"{found.root}: {images:,} images of {len(found.classes)} classes, {test}", **PLAIN)
    console.print(f"  {found.named}", **PLAIN)
    say_notes(found.notes())
