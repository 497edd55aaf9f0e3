"""How well a training tells unknown images from its own."""

from typing import ClassVar

from utuning_search.search.objectives.base import Direction, MeasuredObjective, Setting
from utuning_search.training.measurement import Measurement
from utuning_search.training.ood_scores import MSP, auroc, of_logits


class OodAuroc(MeasuredObjective):
    """Chance that a validation image has a larger maximum softmax probability than one of the task's unknown images.

    Area under the ROC curve, as in Hendrycks & Gimpel (arXiv 1610.02136). 0.5 is a guess.
    """

    name: ClassVar[str] = "ood_auroc"
    label: ClassVar[str] = "AUROC against unknown images"
    direction: ClassVar[Direction] = "maximize"
    takes_outliers: ClassVar[bool] = True

    def bounds(self, setting: Setting) -> tuple[float, float]:
        del setting
        return 0.5, 1.0

    def measure(self, measured: Measurement) -> float:
        assert measured.outliers is not None, "a study that weighs it has unknown images"
        return auroc(of_logits(MSP, measured.logits), of_logits(MSP, measured.outliers()))
