"""`confirm`: a front in earnest, on the test split."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from utuning_search.cli.besides import measured_besides
from utuning_search.cli.confirm_options import check, options_of, trials_of
from utuning_search.cli.console import PLAIN, console, errors
from utuning_search.cli.display import say_again, say_progress
from utuning_search.cli.finals_display import finals_lines
from utuning_search.cli.json_output import say_json
from utuning_search.cli.options import JSON
from utuning_search.cli.running import loggers_of, say_trouble
from utuning_search.cli.stopped import Stopped
from utuning_search.cli.studies import FINALS_PNG, load_study, place_of, write_confirmation
from utuning_search.results.confirm import confirm
from utuning_search.results.finals import Confirmation
from utuning_search.results.outcomes import FINALS
from utuning_search.results.remeasure import remeasure
from utuning_search.results.shared_finals import send_finals
from utuning_search.results.tables import COMPARISONS_CSV, FINALS_CSV, comparisons_table
from utuning_search.results.words import smallest_equal
from utuning_search.search.study import Study


def run(arguments: argparse.Namespace) -> int:
    check(arguments)  # before a study is opened
    loggers = loggers_of(arguments)
    study = load_study(arguments)
    place = place_of(arguments)
    told: Callable[..., None] = say_progress
    again: Callable[..., None] = say_again
    if arguments.format == JSON:
        told, again = partial(say_progress, to=errors), partial(say_again, to=errors)
    try:
        found = confirm(
            study,
            top=arguments.top,
            trials=trials_of(arguments.trial),
            seeds=arguments.seeds,
            presets=arguments.preset,
            epochs=arguments.epochs,
            augment=not arguments.no_augment,
            workers=arguments.workers,
            device=arguments.device,
            data_dir=arguments.data_dir,
            metric=arguments.metric,
            on_progress=None if arguments.quiet else told,
            callbacks=loggers,
            on_trouble=say_trouble,
        )
        if arguments.remeasure is not None:
            found = remeasure(
                study,
                found,
                arguments.remeasure,
                workers=arguments.workers,
                device=arguments.device,
                data_dir=arguments.data_dir,
                on_progress=None if arguments.quiet else again,
                callbacks=loggers,
                on_trouble=say_trouble,
            )
        send_finals(study)  # what was measured again too
        write_confirmation(study, found)
        more = measured_besides(study, found, arguments)
    except KeyboardInterrupt:
        raise Stopped(f"confirm {study.name}{options_of(arguments)}{place}") from None
    if arguments.format == JSON:
        say_json({**_table(study, found), **more.to_dict()})
        return 0
    for line in (*finals_lines(found), *more.lines()):
        console.print(line)
    console.print(f"\nPicture  {study.folder / FINALS_PNG}", **PLAIN)
    console.print(f"Tables   {study.folder / FINALS_CSV}  {study.folder / FINALS / COMPARISONS_CSV}", **PLAIN)
    for path in more.tables:
        console.print(f"         {path}", **PLAIN)
    console.print("Next", **PLAIN)
    for line in _next(study, found, options_of(arguments, seeds=2 * found.seeds)):
        console.print(f"  utuning-search {line}{place}", **PLAIN)
    return 0


def _table(study: Study, found: Confirmation) -> dict[str, Any]:
    """What --format json prints: the rows of finals.csv and of finals/comparisons.csv, and what they are of."""
    names = {f.key: f.finalist.name for f in found.finals}
    return {
        "study": study.name,
        "metric": found.metric,
        "epochs": found.epochs,
        "augmented": found.augmented,
        "seeds": found.seeds,
        "test_images": found.test_images,
        "classes": found.classes,
        "finals": [{**f.to_dict(names), "design": f.finalist.design.to_dict()} for f in found.finals],
        "comparisons": comparisons_table(found).to_dict("records"),
        "notes": found.notes,
    }


def _next(study: Study, found: Confirmation, more: str) -> Iterator[str]:
    """Exports of the most accurate survivor and of the smallest that cannot be told apart from it, and more seeds."""
    tried = [f for f in found.survivors if f.finalist.trial is not None]
    if tried:
        best = max(tried, key=lambda f: f.mean or 0.0)
        for trial in dict.fromkeys(f.finalist.trial for f in (best, smallest_equal(found, best)) if f in tried):
            yield f"export {study.name} --pick trial={trial}"
    yield f"confirm {study.name}{more}"
