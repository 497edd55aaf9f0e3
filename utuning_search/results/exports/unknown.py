"""Choose the threshold of an export on the study's validation images."""

import numpy as np

from utuning_search.common.errors import InputError, StudyError
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.outcomes import read_outcome
from utuning_search.results.predictions import read_confidences
from utuning_search.results.study_data import search_context
from utuning_search.results.threshold import UNKNOWN, Threshold
from utuning_search.results.trained import source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.loop import predict


def check_rate(rate: float, option: str = "--unknown") -> float:
    """The share, if it is one that can be asked for."""
    if not 0 < rate < 1:
        raise InputError(option, "it is a share above 0 and below 1", rate, "For example: --unknown 0.05")
    return rate


def threshold_of(
    study: Study, record: TrialRecord, model: TunedClassifier, rate: float, data_dir: str | None = None
) -> Threshold:
    """The largest probability below which at most `rate` of the validation images are.

    Test images choose nothing: of a confirmed design it is only said how many of them are below it, which its
    confirmation kept.

    Args:
        study, record: Of the trial.
        model: Its tuner, as it is exported.
        rate: Above 0 and below 1.
        data_dir: Where the images are looked up.

    Raises:
        InputError: The rate is none, or a class is called "unknown".
        StudyError: The images are others.
    """
    check_rate(rate)
    if UNKNOWN in model.classes:
        raise StudyError(f"study '{study.name}'", f"no class is called '{UNKNOWN}'", "one is", "Rename the class.")
    images = search_context(study, data_dir or study.local.get("data_dir")).data.validation.images
    sure = predict(model, model.preprocess(images)).softmax(dim=1).amax(dim=1).double().sort().values
    probability = float(sure[int(rate * len(sure))])
    source, confirmed = source_of(study, record)
    known = None
    if confirmed:
        known = read_confidences(study.folder, [read_outcome(source.with_suffix(".json"))])
    return Threshold(
        probability,
        rate,
        len(sure),
        confirmed and not study.spec.task.data.shots,
        -1.0 if known is None else float(np.mean(known < probability)),
    )
