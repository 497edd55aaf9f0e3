"""`recommend`: a folder of images in, a tuner out."""

import argparse
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.display import Display, say_progress
from utuning_search.cli.options import image_size, seconds, workers
from utuning_search.cli.running import loggers_of, say_trouble
from utuning_search.cli.stopped import Stopped
from utuning_search.cli.studies import (
    FINALS_PNG,
    FRONT_PNG,
    say_notes,
    say_survey,
    warn_of_skipped,
    write_confirmation,
    write_results,
)
from utuning_search.common.counts import parse_count
from utuning_search.common.text import python_string
from utuning_search.common.wording import counted, printable
from utuning_search.data.looking import called
from utuning_search.designs.nearest import nearest_preset
from utuning_search.results.classes import per_class
from utuning_search.results.exports.card import USED
from utuning_search.results.finals import Final
from utuning_search.results.metrics import ACCURACY, checked, words
from utuning_search.results.outcomes import FINALS
from utuning_search.results.recommend.finish import Recommendation, finish
from utuning_search.results.recommend.plan import FEWEST_DESIGNS
from utuning_search.results.recommend.prepare import prepare
from utuning_search.results.recommend.search import Search, search
from utuning_search.results.tables import CLASSES_CSV
from utuning_search.results.words import advice, against
from utuning_search.search.callbacks.logger import Logger
from utuning_search.search.storage import quiet_optuna
from utuning_search.training.runtime import resolve_device

WORST = 3  # classes that are named


def run(arguments: argparse.Namespace) -> int:
    quiet_optuna()
    began = time.monotonic()
    duration, limit = seconds(arguments.time) or 0.0, parse_count(arguments.max_params, "--max-params")
    image_size(arguments.image_size)
    workers(arguments.workers)
    if arguments.metric is not None:
        checked(arguments.metric)
    resolve_device(arguments.device)
    loggers = loggers_of(arguments)
    data = Path(arguments.data)
    out = Path(arguments.out) if arguments.out else Path("recommended") / called(data)
    with console.status("Looking at the images, and at what one costs ..."):
        prepared = prepare(
            data,
            out,
            max_parameters=limit,
            seconds=duration,
            backbone=arguments.backbone,
            checkpoint=arguments.checkpoint,
            image_size=arguments.image_size,
            mirror=arguments.mirror,
            metric=arguments.metric,
            workers=arguments.workers,
            device=arguments.device,
            seed=arguments.seed,
            on_survey=None if arguments.quiet else say_survey,
            say=say_trouble,
        )
    warn_of_skipped(prepared.study)
    if not arguments.quiet:
        say_notes((*prepared.study.notes(), *prepared.notes))
        for line in _findings(prepared):
            console.print(line, **PLAIN)
    try:
        return _go(prepared, out, began, arguments, loggers)
    except KeyboardInterrupt:
        raise Stopped from None


def _go(prepared: Search, out: Path, began: float, arguments: argparse.Namespace, loggers: Sequence[Logger]) -> int:
    study = prepared.study
    with Display(study, quiet=arguments.quiet) as display:
        say = None if arguments.quiet else lambda needs: console.print(f"{needs}", **PLAIN)
        finished = search(
            prepared,
            workers=arguments.workers,
            on_change=display.show,
            on_loaded=say,
            callbacks=loggers,
            on_trouble=say_trouble,
        )
    write_results(study, study.trials())
    if not finished:
        raise Stopped
    spent = time.monotonic() - began if prepared.plan is not None else prepared.search_seconds
    if not arguments.quiet:
        limit = study.spec.task.data.limit
        trained = f"{limit:,} of the" if limit else "all"
        console.print(f"\nFinals, trained on {trained} training images and measured on the test images:", **PLAIN)
    found = finish(
        prepared,
        out,
        prepared.seconds - spent,
        workers=arguments.workers,
        on_progress=None if arguments.quiet else say_progress,
        callbacks=loggers,
        on_trouble=say_trouble,
    )
    write_confirmation(study, found.confirmation)
    for line in _answer(prepared, found):
        console.print(line, **PLAIN)
    return 0


def _findings(prepared: Search) -> Iterator[str]:
    """What will be done with what was found."""
    spec, study = prepared.study.spec.task, prepared.study
    size = f" at {spec.backbone.image_size} px" if spec.backbone.image_size else ""
    yield f"Backbone {spec.backbone.name}{size}, frozen; at most {study.spec.max_parameters:,} trainable parameters"
    if study.objectives.quality.name != ACCURACY:
        yield (
            f"Designs are chosen by {words(study.objectives.quality.name)}, where each class counts as much as any "
            "other, however few images it has; --metric accuracy counts images instead"
        )
    plan = prepared.plan
    if plan is None:
        yield f"Goes on with the study in {study.folder}"
        return
    yield (
        f"Each design is trained for {plan.recipe.epochs} epochs on {plan.proxy:,} images and compared on "
        f"{plan.validation:,}; about {plan.designs:,} fit into {plan.search_seconds:.0f}s, more with pruning"
    )
    if plan.limit:
        yield f"  note: finals take {plan.limit:,} images to train on, as more would not fit into the time."
    if plan.designs < FEWEST_DESIGNS:
        yield "  note: so few designs tell little. Give more --time, a smaller --image-size or a smaller --backbone."
    quality = study.objectives.quality.name
    error = _error(prepared.survey.classes, plan.validation, each=quality != ACCURACY)
    if error > 2:
        what = "a" if quality != ACCURACY else "an"
        yield (
            f"  note: {plan.validation:,} images may put {what} {words(quality)} off by ± {error:.0f} points by chance "
            "alone."
        )


def _error(classes: Mapping[str, int], validation: int, *, each: bool) -> float:
    """Points that chance may move an accuracy by on so many images, or, where `each` class counts alike, a mean of its
    classes' accuracies; by a standard error, of answers of which half are right.
    """
    total = sum(classes.values())
    images = [max(round(validation * count / total), 1) for count in classes.values()] if each else [validation]
    return 100 * math.sqrt(sum(0.25 / n for n in images)) / len(images)


def _answer(prepared: Search, found: Recommendation) -> Iterator[str]:
    """What is recommended, how good it is, and how it is used."""
    study, trial, final = prepared.study, found.trial, found.final
    near = "" if trial.design is None else str(nearest_preset(trial.design, study.shape.depth))
    yield f"\nRecommended: {trial.design}"
    yield f"  {near}; trial {trial.number} of {len(study.trials())}"
    tuner = final.finalist.tuner_parameters
    yield f"  parameters  {trial.parameters:,}, of these {tuner:,} in the tuner and the rest in the head"
    quality, by = study.objectives.quality, f" {words(final.metric)}" if final.metric != ACCURACY else ""
    yield f"  validation  {quality.text(trial.values[quality.name])}{by}, on which it was chosen"
    on = f"{by[1:]} on " if by else ""
    yield f"  test        {_mean(final)}, {on}{found.confirmation.test_images:,} images"
    if by:
        accuracy = final.mean_of(ACCURACY)
        yield f"  accuracy    {'-' if accuracy is None else f'{100 * accuracy:.2f}%'} on the same test images"
    yield from _recalls(found)
    if final.calibration is not None:
        yield f"  calibration its probabilities are off by {100 * final.calibration.error:.1f} points on average (ECE)"
    for name, other in (("linear probe", found.probe), ("best other known method", found.known)):
        if other is not None and other is not final:
            what = "" if name == "linear probe" else f" {other.finalist.preset},"
            yield f"  {name}:{what} {other.finalist.parameters:,} parameters, test {_mean(other)}"
            yield f"    recommended is {against(found.confirmation, final, other)}".replace(" is cannot", " cannot")
    better = advice(found.confirmation, final)
    if better:
        yield f"  note: on the test images {better}, or search longer."
    if found.confirmation.seeds == 1 or (found.probe is None and found.known is None):
        yield "  There was no time for two trainings each of it and of what it is measured beside."
    for note in found.confirmation.notes:
        yield f"  note: {note}"
    yield f"\nPictures  {study.folder / FRONT_PNG}  {study.folder / FINALS_PNG}"
    yield f"Tuner     {found.folder} (loaded again, its logits differ by at most {found.difference:.1e})"
    where = ', data_dir="DATA_DIR"' if study.spec.task.backbone.is_local else ""
    yield f"\nfrom utuning_search import load_tuned\nmodel = load_tuned({python_string(found.folder)}{where})"
    yield USED
    more = " --data-dir DATA_DIR" if where else ""
    yield f"\nutuning-search predict {shlex.quote(str(found.folder))} photo.jpg{more}"


def _recalls(found: Recommendation) -> Iterator[str]:
    """The classes of which least is recognised."""
    classes = found.confirmation.classes
    each = per_class(found.final, len(classes))
    if each is not None:
        tested = [i for i in range(len(classes)) if each.support[i]]
        least = sorted(tested, key=lambda i: (each.recall[i], i))[:WORST]
        said = (
            f"'{classes[i]}' {100 * each.recall[i]:.0f}% of {counted(int(each.support[i]), 'image')}" for i in least
        )
        yield f"  recall      least of {printable(', '.join(said))}; all in {FINALS}/{found.final.key}{CLASSES_CSV}"


def _mean(final: Final) -> str:
    if final.mean is None:
        return f"failed: {final.reason}"
    spread = f" ± {100 * final.sd:.2f}" if final.sd is not None else ""
    return f"{100 * final.mean:.2f}%{spread} ({len(final.outcomes)} {'seed' if len(final.outcomes) == 1 else 'seeds'})"
