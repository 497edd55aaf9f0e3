"""Which classes a final confuses: precision and recall a class, and the confusion matrix; of all its seeds together."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from utuning_search.results.finals import Final

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PerClass:
    """A final, class by class.

    Attributes:
        confusion: Answers by true class (rows) and answered class (columns), added up over seeds; (classes, classes).
        precision: Of the answers that name a class, the share that is right, (classes,); 0 where none names it.
        recall: Of a class's images, the share that is recognised, (classes,), which is its accuracy; 0 without images.
        support: Test images of each class, (classes,).
    """

    confusion: Counts
    precision: Floats
    recall: Floats
    support: Counts


def per_class(final: Final, classes: int) -> PerClass | None:
    """A final class by class, for so many classes; None without predictions."""
    if final.predictions is None or final.labels is None:
        return None
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # takes a second to import

    numbers = np.arange(classes)
    labels, answers = np.tile(final.labels, len(final.predictions)), final.predictions.ravel()
    precision, recall, _, support = precision_recall_fscore_support(labels, answers, labels=numbers, zero_division=0)
    confusion = confusion_matrix(labels, answers, labels=numbers)
    return PerClass(confusion, precision, recall, support // len(final.predictions))
