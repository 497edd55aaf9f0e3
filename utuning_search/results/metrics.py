"""What finals are compared by: accuracy, balanced accuracy or macro F1, as a score and as what each answer adds to it.

Paired statistics are of means over images. Accuracy is one, and balanced accuracy is the mean over classes of means
over their images. Macro F1 is neither, so it is linearised (the infinitesimal jackknife): what an answer adds is how
fast the score changes with the weight of its image. Where a class has a handful of images that is rough.
"""

import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import InputError, nearest
from utuning_search.results.statistics.components import Correct, Floats
from utuning_search.search.defaults import METRICS
from utuning_search.search.objectives.base import MeasuredObjective
from utuning_search.search.objectives.classification import SHARES, Classes
from utuning_search.search.objectives.registry import Objectives, measures

ACCURACY, BALANCED, MACRO_F1 = METRICS


def checked(metric: str, where: str = "--metric") -> str:
    """The name of a metric; an error with the nearest known one otherwise."""
    if metric not in METRICS:
        raise InputError(where, f"it is one of {', '.join(METRICS)}", f"'{metric}'", nearest(metric, METRICS))
    return metric


def metric_of(objectives: Objectives) -> str:
    """What finals of a study are compared by: what it calls a design best by, or accuracy if that is none of ours."""
    return objectives.quality.name if objectives.quality.name in METRICS else ACCURACY


def measured(objectives: Objectives, metric: str) -> tuple[MeasuredObjective, ...]:
    """What trainers of finals measure: accuracy, the study's objectives, and the metric."""
    found = measures(objectives)
    return found if metric in [m.name for m in found] else (*found, SHARES[metric])


def words(metric: str) -> str:
    """A metric in a sentence."""
    return metric.replace("_", " ").replace("f1", "F1")


def score(metric: str, labels: Classes, predicted: Classes) -> float:
    """In [0, 1], of answers (images,) given the classes that are right."""
    return SHARES[metric].score(labels, predicted)


def added(metric: str, labels: Classes, predictions: Classes) -> Correct:
    """What each answer adds to a metric, (seeds, images); the mean over strata of its means is the score of a seed."""
    if metric != MACRO_F1:
        right: Correct = predictions == labels
        return right
    return np.stack([_added_to_f1(labels, row) for row in predictions])


def strata(metric: str, labels: Classes) -> Classes | None:
    """Of each image the stratum that its answers are averaged in; None where there is one."""
    return None if metric == ACCURACY else labels


def _added_to_f1(labels: Classes, predicted: Classes) -> Floats:
    count = int(max(labels.max(), predicted.max())) + 1
    wanted, answered = (np.bincount(v, minlength=count).astype(np.float64) for v in (labels, predicted))
    hits = np.bincount(labels[labels == predicted], minlength=count)
    both: npt.NDArray[np.float64] = np.maximum(wanted + answered, 1)
    f1, known = 2 * hits / both, wanted + answered > 0
    images, present = len(labels), int((wanted > 0).sum())
    # The derivative of the mean of 2 TP / (2 TP + FP + FN) by the weight of an image, times images.
    change = (2 * (labels == predicted) - f1[labels]) / both[labels] - f1[predicted] / both[predicted]
    values = f1[known].mean() + images / known.sum() * change
    found: Floats = values * present * wanted[labels] / images  # so that means over classes average to the mean of all
    return found
