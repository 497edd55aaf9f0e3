"""What earlier confirmations of a study left, and finals made of it."""

from collections.abc import Iterator, Mapping, Sequence

from utuning_search.common.errors import StudyError
from utuning_search.designs.design import Design
from utuning_search.results.finalists import Finalist, finalists_of
from utuning_search.results.finals import Confirmation, Final, judge
from utuning_search.results.metrics import metric_of
from utuning_search.results.outcomes import FINALS, SEED, Outcome, outcome_file, read_outcome
from utuning_search.results.predictions import read_confidences, read_labels, read_predictions
from utuning_search.search.study import Study

Kept = dict[tuple[str, int], Outcome]  # by key and seed


def kept_outcomes(
    study: Study, finalists: Sequence[Finalist], epochs: int, augmented: bool, seeds: int, digest: str
) -> Kept:
    """Outcomes of finalists, trained so long and in such a way, of the first so many seeds.

    Raises:
        StudyError: One is damaged, or of other images than those of the digest.
    """
    found = {}
    for finalist in finalists:
        for seed in range(seeds):
            path = outcome_file(study.folder, finalist.design.key, epochs, augmented, seed)
            if path.exists():
                outcome = read_outcome(path)
                check_data(study, outcome, digest)
                found[finalist.design.key, seed] = outcome
    return found


def check_data(study: Study, outcome: Outcome, digest: str) -> None:
    """Refuse an outcome of other images."""
    if outcome.data != digest:
        todo = f"Put the images back as they were, or remove {study.folder / FINALS} to train all finalists again."
        rule = f"the digest of training and test images is {outcome.data}, as when finalists were trained"
        raise StudyError(f"study '{study.name}', data", rule, digest, todo)


def finals_of(study: Study, finalists: Sequence[Finalist], kept: Mapping[tuple[str, int], Outcome]) -> Iterator[Final]:
    """The finalists that were trained at all, with what they answered; not judged yet."""
    labels = read_labels(study.folder)
    for finalist in finalists:
        seeds = sorted(seed for key, seed in kept if key == finalist.design.key)
        outcomes = tuple(kept[finalist.design.key, seed] for seed in seeds)
        if outcomes:
            answers, sure = read_predictions(study.folder, outcomes), read_confidences(study.folder, outcomes)
            yield Final(finalist, outcomes, answers, labels, sure)


def kept_confirmation(study: Study) -> tuple[Confirmation | None, int]:
    """All finals that a study's folder holds, judged together, without training or reading any image.

    Finals compare only where they were trained alike: of several lengths, ways of training and sets of images it is the
    one with most designs, of these the longest, and the augmented one.

    Returns:
        None where nothing was confirmed; and how many other trainings there are.

    Raises:
        StudyError: A file is damaged.
    """
    found: dict[tuple[int, bool, str], Kept] = {}
    for path in sorted((study.folder / FINALS).glob(f"*epochs*{SEED}*.json")):
        outcome = read_outcome(path)
        found.setdefault((outcome.epochs, outcome.augmented, outcome.data), {})[outcome.key, outcome.seed] = outcome
    if not found:
        return None, 0
    way = max(found, key=lambda w: (len({key for key, _ in found[w]}), *w))
    kept = found.pop(way)
    designs = [Design.from_dict(o.design, f"finals of {o.key}") for o in kept.values()]
    known = {d.key: label for label, d in study.spec.preset_designs(study.shape.depth).items()}
    metric = metric_of(study.objectives)
    finalists = finalists_of(designs, study.trials(), study.objectives, study.setting, known, metric)
    finals, comparisons = judge(finals_of(study, finalists, kept), metric)
    images = next(o.test_images for o in kept.values())
    found_here = Confirmation(finals, way[0], way[1], images, tuple(study.classes), comparisons, metric=metric)
    return found_here, sum(map(len, found.values()))
