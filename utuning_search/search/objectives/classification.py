"""How well images are classified: accuracy, balanced accuracy, macro F1."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from utuning_search.search.objectives.base import Direction, MeasuredObjective, Setting
from utuning_search.training.loop import accuracy_of
from utuning_search.training.measurement import Measurement

Classes = npt.NDArray[np.int64]  # (images,), numbers of classes


class Share(MeasuredObjective):
    """A share in [0, 1] that true and answered classes decide, the more the better."""

    direction: ClassVar[Direction] = "maximize"

    def bounds(self, setting: Setting) -> tuple[float, float]:
        del setting
        return 0.0, 1.0

    def measure(self, measured: Measurement) -> float:
        return self.score(measured.labels.cpu().numpy(), measured.logits.argmax(dim=1).cpu().numpy())

    @abstractmethod
    def score(self, labels: Classes, predicted: Classes) -> float:
        """Of answers, given the classes that are right."""


class Accuracy(Share):
    """Share of images whose most likely class is theirs (top-1)."""

    name: ClassVar[str] = "accuracy"
    label: ClassVar[str] = "validation accuracy"

    def measure(self, measured: Measurement) -> float:
        return accuracy_of(measured.logits, measured.labels)

    def score(self, labels: Classes, predicted: Classes) -> float:
        return float((labels == predicted).mean())


class BalancedAccuracy(Share):
    """Mean over classes of the share of their images that are recognised (recall); classes without images do not count.

    scikit-learn's `balanced_accuracy_score`.
    """

    name: ClassVar[str] = "balanced_accuracy"
    label: ClassVar[str] = "validation balanced accuracy"

    def score(self, labels: Classes, predicted: Classes) -> float:
        from sklearn.metrics import recall_score  # takes a second to import, which most studies need not pay

        # As balanced_accuracy_score, which warns of classes that are predicted and not there.
        return float(recall_score(labels, predicted, labels=sorted(set(labels.tolist())), average="macro"))


class MacroF1(Share):
    """Mean over classes of the harmonic mean of precision and recall; scikit-learn's `f1_score(average="macro")`."""

    name: ClassVar[str] = "macro_f1"
    label: ClassVar[str] = "validation macro F1"

    def score(self, labels: Classes, predicted: Classes) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(labels, predicted, average="macro", zero_division=0))


SHARES: dict[str, Share] = {share.name: share for share in (Accuracy(), BalancedAccuracy(), MacroF1())}
