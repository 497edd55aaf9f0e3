"""What earlier confirmations of a study left, and finals made of it."""

from collections.abc import Iterator, Mapping, Sequence

from utuning_search.common.errors import StudyError
from utuning_search.results.finalists import Finalist
from utuning_search.results.finals import Final
from utuning_search.results.outcomes import FINALS, Outcome, outcome_file, read_outcome
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
