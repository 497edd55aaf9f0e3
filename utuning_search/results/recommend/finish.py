"""What a search found, confirmed and exported.

The tuner is chosen on validation images; test images only say how good it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utuning_search.common.errors import StudyError
from utuning_search.common.files import make_folder
from utuning_search.results.confirm import Progress, confirm
from utuning_search.results.exported import README, TUNER_WEIGHTS
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.finalists import strongest_presets
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.recommend.prepare import check_free
from utuning_search.results.recommend.search import Search
from utuning_search.results.rounds import Rounds
from utuning_search.search.callbacks.base import Callback
from utuning_search.search.callbacks.telling import warn
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.trials import TrialRecord

PROBE = "linear-probe"
MOST_SEEDS = 5  # more tell little more: the test images are the same
FORWARD = 0.4  # of the time of a training that goes back through all blocks


@dataclass(frozen=True)
class Recommendation:
    """What `recommend` found.

    Attributes:
        trial: The design that is small enough and best on validation images, by what the study weighs.
        final: It, trained on all training images, on test images.
        probe: The linear probe, likewise; None where there was no time, or one is what is recommended.
        known: The best other known method on validation images that is small enough, likewise; None if there is none,
            or there was no time.
        confirmation: All finals.
        folder: Of the exported tuner.
        difference: Largest difference of its logits from the training's, once loaded.
    """

    trial: TrialRecord
    final: Final
    probe: Final | None
    known: Final | None
    confirmation: Confirmation
    folder: Path
    difference: float


def finish(
    prepared: Search,
    out: Path,
    seconds: float,
    *,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    callbacks: Sequence[Callback] = (),
    on_trouble: Callable[[str], None] = warn,
) -> Recommendation:
    """Choose on validation images, confirm on test images as long as there is time, export.

    What is recommended is trained first, then its `companions`, then all three again with
    further seeds in turn.

    Args:
        prepared: Its search is over.
        out: Where the tuner goes.
        seconds: That are left for finals and export; one training is done in any case.
        workers: Processes.
        on_progress, callbacks, on_trouble: As for `confirm`.
    """
    study = prepared.study
    front, records = study.front(), study.trials()
    if not front:
        todo = "Give more --time, a smaller --image-size, or a smaller --backbone; see the trials in study/trials.csv."
        raise StudyError(f"study in {study.folder}", "a design was trained to the end", "none", todo)
    best = front[-1]
    probe, known = companions(best, records, study.objectives)
    wanted = {r.key: r for r in (best, probe, known) if r is not None}  # each design once, in this order
    rounds = Rounds(final_seconds({key: r.seconds for key, r in wanted.items()}, _more(prepared)), seconds)
    found = confirm(
        study,
        trials=[r.number for r in wanted.values()],
        seeds=MOST_SEEDS,
        workers=workers,
        rounds=rounds,
        on_progress=on_progress,
        callbacks=callbacks,
        on_trouble=on_trouble,
    )
    by_key = {f.finalist.design.key: f for f in found.finals}
    check_free(out)
    for name in (README, TUNER_WEIGHTS) if (out / TUNER_WEIGHTS).exists() else ():  # of an export that was killed
        (out / name).unlink(missing_ok=True)
    make_folder(out)
    difference = export_trial(study, best, out)
    return Recommendation(
        trial=best,
        final=by_key[best.key],
        probe=by_key.get(probe.key) if probe else None,
        known=by_key.get(known.key) if known else None,
        confirmation=found,
        folder=out,
        difference=difference,
    )


def companions(
    best: TrialRecord, records: Sequence[TrialRecord], objectives: Objectives
) -> tuple[TrialRecord | None, TrialRecord | None]:
    """The linear probe, and the best known method besides it: what `best` is measured beside.

    One that `best` is itself, at this or another learning rate, is none: nothing would be learnt from it.
    """

    def another(record: TrialRecord) -> bool:
        mine, other = best.design, record.design
        return mine is not None and other is not None and other.placements != mine.placements

    complete = (r for r in records if r.preset == PROBE and r.state == "complete")
    known = (r for r in strongest_presets(records, objectives=objectives) if r.preset != PROBE)
    return next(filter(another, complete), None), next(filter(another, known), None)


def final_seconds(trials: Mapping[str, float], more: float) -> dict[str, float]:
    """About how long a final of each design takes, by key.

    A trial takes from a cache what the blocks before its first tuner give: one of the linear probe is over in a moment.
    Finals see each image changed at random, so nothing is cached, and a pass through all blocks is FORWARD of a
    training that goes back through them, too.

    Args:
        trials: Seconds of each design's trial, which measuring at rungs is part of.
        more: Images of a final's epoch, for one of a trial's.
    """
    least = FORWARD * max(trials.values(), default=0.0)
    return {key: max(seconds, least) * more for key, seconds in trials.items()}


def _more(prepared: Search) -> float:
    """Images of a final's epoch, for one of a trial's."""
    data = prepared.study.spec.task.data
    everything = min(prepared.survey.trained, data.limit or prepared.survey.trained)
    return everything / max(min(data.proxy, everything), 1)
