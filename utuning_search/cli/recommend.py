"""`recommend`: a folder of images in, a tuner out."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utuning_search.cli.confirm import FINALS_PNG, STOPPED, say_progress
from utuning_search.cli.display import PLAIN, Display, console
from utuning_search.cli.options import add_backbone, image_size, seconds, workers
from utuning_search.cli.search import FRONT_PNG, warn_of_skipped
from utuning_search.designs.nearest import nearest_preset
from utuning_search.results.export import parse_count
from utuning_search.results.finals import Final
from utuning_search.results.pictures import save_finals, save_front
from utuning_search.results.plan import FEWEST_DESIGNS
from utuning_search.results.recommend import Recommendation, Search, finish, prepare, search
from utuning_search.results.tables import write_finals, write_tables
from utuning_search.training.runtime import resolve_device

TIME, SIZE = "10m", "100k"


def add_commands(commands: Any) -> None:
    text = "from a folder of images to a tuner: make a task, search, confirm the best, export it"
    parser = commands.add_parser("recommend", help=text, description=f"{text[0].upper()}{text[1:]}.")
    text = "images as DIR/<class>/**, or DIR/train/<class>/** and DIR/test/<class>/**"
    parser.add_argument("--data", required=True, metavar="DIR", help=text)
    text = f"the most trainable parameters, head included, such as 50000, 50k or 1.2M (default: {SIZE})"
    parser.add_argument("--max-params", default=SIZE, metavar="N", help=text)
    text = f"for search and finals together, such as 90s, 10m or 2h (default: {TIME})"
    parser.add_argument("--time", default=TIME, metavar="T", help=text)
    add_backbone(parser)
    text = "mirror images are as good as the images themselves: true of most photos, not of writing"
    parser.add_argument("--mirror", action="store_true", help=text)
    text = (
        "for the tuner and its study; the same command goes on where one was stopped (default: recommended/DIR's name)"
    )
    parser.add_argument("--out", metavar="FOLDER", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of proposals and training (default: 0)")
    text = "processes; 0 trains in this one (default: one a CPU core, or one a GPU)"
    parser.add_argument("--workers", type=int, metavar="N", help=text)
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing until it is done")
    parser.set_defaults(run=recommend_command)


def recommend_command(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    duration, limit = seconds(arguments.time) or 0.0, parse_count(arguments.max_params, "--max-params")
    image_size(arguments.image_size)
    workers(arguments.workers)
    resolve_device(arguments.device)
    data = Path(arguments.data)
    out = Path(arguments.out) if arguments.out else Path("recommended") / data.resolve().name
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
            workers=arguments.workers,
            device=arguments.device,
            seed=arguments.seed,
        )
    warn_of_skipped(prepared.study)
    if not arguments.quiet:
        for line in _findings(prepared):
            console.print(line, **PLAIN)
    try:
        return _go(prepared, out, began, arguments)
    except KeyboardInterrupt:
        return _stopped()


def _go(prepared: Search, out: Path, began: float, arguments: argparse.Namespace) -> int:
    study = prepared.study
    with Display(study, quiet=arguments.quiet) as display:
        finished = search(prepared, workers=arguments.workers, on_change=display.show)
    records = study.trials()
    write_tables(study)
    title = f"{study.spec.space.name} on {study.spec.task.name}"
    save_front(records, title, study.folder / FRONT_PNG)
    if not finished:
        return _stopped()
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
    )
    write_finals(study, found.confirmation)
    save_finals(found.confirmation, f"{title}: finals", study.folder / FINALS_PNG)
    for line in _answer(prepared, found):
        console.print(line, **PLAIN)
    return 0


def _stopped() -> int:
    console.print("\nStopped; all that was finished is kept. The same command goes on.", **PLAIN)
    return STOPPED


def _findings(prepared: Search) -> Iterator[str]:
    """What was found in the folder, and what will be done with it."""
    found, spec, study = prepared.survey, prepared.study.spec.task, prepared.study
    images, tested = sum(found.classes.values()), sum((found.test or {}).values())
    test = (
        f"{tested:,} for the test"
        if found.test is not None
        else f"{100 * found.held_out:.0f}% of each class for the test"
    )
    yield f"{found.root}: {images:,} images of {len(found.classes)} classes, {test}"
    for note in found.notes():
        yield f"  note: {note}"
    size = f" at {spec.backbone.image_size} px" if spec.backbone.image_size else ""
    yield f"Backbone {spec.backbone.name}{size}, frozen; at most {study.spec.max_parameters:,} trainable parameters"
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
    error = 100 * (0.25 / plan.validation) ** 0.5
    if error > 2:
        yield f"  note: {plan.validation:,} images may put an accuracy off by ± {error:.0f} points by chance alone."


def _answer(prepared: Search, found: Recommendation) -> Iterator[str]:
    """What is recommended, how good it is, and how it is used."""
    study, trial, final = prepared.study, found.trial, found.final
    near = "" if trial.design is None else str(nearest_preset(trial.design, study.shape.depth))
    yield f"\nRecommended: {trial.design}"
    yield f"  {near}; trial {trial.number} of {len(study.trials())}"
    tuner = final.finalist.tuner_parameters
    yield f"  parameters  {trial.parameters:,}, of these {tuner:,} in the tuner and the rest in the head"
    yield f"  validation  {100 * (trial.accuracy or 0):.2f}%, on which it was chosen"
    yield f"  test        {_mean(final)}, {found.confirmation.test_images:,} images"
    for name, other in (("linear probe", found.probe), ("best known method", found.known)):
        if other is not None and other is not final:
            what = "" if name == "linear probe" else f" {other.finalist.preset},"
            yield f"  {name}:{what} {other.finalist.parameters:,} parameters, test {_mean(other)}"
    for other in found.confirmation.survivors:
        if not final.survives and other.mean is not None and (final.mean is None or other.mean > final.mean):
            yield (
                f"  note: on the test images {other.finalist.preset or other.finalist.design} is no larger and better "
                "by more than the spread: rather take that, or search longer."
            )
            break
    if found.confirmation.seeds < 3 or found.probe is None:
        yield "  There was no time for three trainings each of it, of the linear probe and of the best known method."
    yield f"\nPictures  {study.folder / FRONT_PNG}  {study.folder / FINALS_PNG}"
    yield f"Tuner     {found.folder} (loaded again, its logits differ by at most {found.difference:.1e})"
    where = ', data_dir="DATA_DIR"' if study.spec.task.backbone.checkpoint else ""
    yield f'\nfrom utuning_search import load_tuned\nmodel = load_tuned("{found.folder}"{where})'
    yield "logits = model(model.preprocess(images))  # uint8 images of (batch, channels, size, size)"
    yield "names = [model.classes[i] for i in logits.argmax(1)]"


def _mean(final: Final) -> str:
    if final.mean is None:
        return f"failed: {final.reason}"
    spread = f" ± {100 * final.sd:.2f}" if final.sd is not None else ""
    return f"{100 * final.mean:.2f}%{spread} ({len(final.outcomes)} {'seed' if len(final.outcomes) == 1 else 'seeds'})"
