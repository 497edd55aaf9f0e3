"""Accuracy of finals on corrupted test images, and with flipped bits in their tuners' weights."""

from collections.abc import Callable, Iterator
from statistics import fmean

from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.seeds import derive_seed
from utuning_search.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.outcomes import EXPORTED_SEED
from utuning_search.results.reopened import no_weights, reopened
from utuning_search.results.resilience.bit_flips import RATES, flipped
from utuning_search.results.resilience.table import BIT_FLIPS, Hardship
from utuning_search.results.trained import final_model
from utuning_search.search.study import Study
from utuning_search.training.loop import accuracy_of, predict
from utuning_search.training.transfer import to_device

DRAWS = 3  # of bit flips: at a low rate one draw may hit nothing, or the head


def perturb(
    study: Study,
    found: Confirmation,
    *,
    device: str | None = None,
    data_dir: str | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[Hardship, ...]:
    """What each final's exported weights, those of its first seed, are worth under each trouble.

    Nothing is trained. Noise and flips are functions of the study's seed, and the same images are hit alike for all
    finals.

    Args:
        study: That was confirmed.
        found: Its finals.
        device: As of `confirm`.
        data_dir: Where relative data paths are looked up; None for the study's own.
        on_progress: Called after each trouble, with its name.

    Raises:
        StudyError: Other images than those of the finals, or no final has weights.
    """
    told = on_progress or (lambda _: None)
    with reopened(study, found, device, data_dir) as opened:
        models: list[tuple[Final, TunedModel]] = []
        for final in found.finals:
            first = next((o for o in final.outcomes if o.seed == EXPORTED_SEED), None)
            model = None if first is None else final_model(study, final.finalist.design, first, opened.backbone)
            models += [] if model is None else [(final, model)]
        if not models:
            raise no_weights(study)
        labelled = Labelled(opened.data.test.images, opened.data.test.labels, opened.context.preprocessing)
        clean = {final.key: labelled.accuracy(model) for final, model in models}
        rows = []
        for name in CORRUPTIONS:
            for severity in SEVERITIES:
                seed = derive_seed(study.spec.seed, f"{name} {severity}")
                worse = Labelled(
                    corrupted(labelled.images, name, severity, seed), labelled.labels, labelled.preprocessing
                )
                for final, model in models:
                    rows.append(_row(final, name, severity, [worse.accuracy(model)], clean, len(labelled.labels)))
            told(name)
        for final, model in models:
            for rate in RATES:
                values = list(_flips(study, final, model, rate, labelled))
                rows.append(_row(final, BIT_FLIPS, rate, values, clean, len(labelled.labels)))
        told(BIT_FLIPS)
    order = {final.key: i for i, (final, _) in enumerate(models)}
    return tuple(sorted(rows, key=lambda row: order[row.key]))


class Labelled:
    """Test images, uint8 (images, channels, size, size), with their classes, (images,)."""

    def __init__(self, images: Tensor, labels: Tensor, preprocessing: Preprocessing) -> None:
        self.images, self.labels, self.preprocessing = images, labels, preprocessing

    def accuracy(self, model: TunedModel) -> float:
        """Of a model in evaluation mode."""
        inputs = to_device(self.images, str(model.head.weight.device))
        logits = predict(lambda part: model(self.preprocessing.normalise(part)), inputs)
        return accuracy_of(logits.cpu(), self.labels)


def _flips(study: Study, final: Final, model: TunedModel, rate: float, labelled: Labelled) -> Iterator[float]:
    """Accuracy after each draw of flips; the model is then what it was."""
    whole = model.tuner_state_dict()
    for draw in range(DRAWS):
        model.load_tuner_state_dict(flipped(whole, rate, derive_seed(study.spec.seed, f"{final.key} {rate} {draw}")))
        yield labelled.accuracy(model)
    model.load_tuner_state_dict(whole)


def _row(
    final: Final, trouble: str, level: float, values: list[float], clean: dict[str, float], images: int
) -> Hardship:
    mean, level = fmean(values), float(level)
    return Hardship(
        final.key, final.finalist.name, trouble, level, mean, min(values), clean[final.key], len(values), images
    )
