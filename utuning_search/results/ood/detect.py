"""Score the test images of finals against images of other kinds, with the weights that confirmations kept."""

from collections.abc import Callable, Iterator, Sequence

from torch import nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.seeds import derive_seed
from utuning_search.data.outliers import check_given, load_outliers, without_copies
from utuning_search.designs.design import Design
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.ood.compare import Answers, Seen, Sets, compare, see
from utuning_search.results.ood.figures import Detection, figures
from utuning_search.results.ood.intervals import draws
from utuning_search.results.ood.scoring import DSGF, TUNED, USE
from utuning_search.results.reopened import no_weights, reopened
from utuning_search.results.trained import final_model
from utuning_search.search.study import Study
from utuning_search.training.ood_scores import SCORES


def detect(
    study: Study,
    found: Confirmation,
    given: Sequence[str],
    *,
    use: bool = False,
    dsgf: bool = False,
    device: str | None = None,
    data_dir: str | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[tuple[Detection, ...], tuple[str, ...]]:
    """How well finals tell unknown images from the test images, by each score; and notes on the images, a line each.

    Nothing is trained but the heads of DSGF. Of finals that older versions trained, only the first seed has weights.

    Args:
        study: That was confirmed.
        found: Its finals.
        given: Folders of unknown images, or "letters"; see `outliers.load_outliers`.
        use, dsgf: Whether to score with these too; see `scoring.py`.
        device: As of `confirm`.
        data_dir: Where relative data paths are looked up; None for the study's own.
        on_progress: Called after each final, with its name.

    Raises:
        InputError: There is no such folder, or no image in it.
        DataError: Images cannot be read, or all are the task's own.
        StudyError: Other images than those of the finals, or no final has weights.
    """
    check_given(given)
    methods = (TUNED, *([USE] if use else []), *([DSGF] if dsgf else []))
    rows: list[Detection] = []
    with reopened(study, found, device, data_dir) as opened:
        context, data, backbone = opened.context, opened.data, opened.backbone
        unknown = [load_outliers(one, context.preprocessing, data.decoding) for one in given]
        unknown = [without_copies(one, data.train.images, data.test.images) for one in unknown]
        sets = Sets(
            data.train.images,
            data.train.labels,
            data.test.images,
            data.test.labels,
            {one.name: one.images for one in unknown},
            # Of a few-shot task alone finals do not train on validation images.
            context.data.validation.images if study.spec.task.data.shots else None,
            context.preprocessing,
        )
        bare = TunedModel(backbone, Design(), len(study.classes)).to(opened.device).eval()
        frozen = see(bare, sets) if use or dsgf else None
        for final in found.finals:
            rows += _rows(final, list(_trainings(study, final, sets, backbone, frozen, methods)), sets)
            if on_progress is not None:
                on_progress(final.finalist.name)
    if not rows:
        raise no_weights(study)
    return tuple(rows), tuple(note for one in unknown for note in one.notes)


def _trainings(
    study: Study, final: Final, sets: Sets, backbone: nn.Module, frozen: Seen | None, methods: Sequence[str]
) -> Iterator[dict[str, Answers]]:
    """What each training of a final that has weights says, by method."""
    for outcome in final.outcomes:
        model = final_model(study, final.finalist.design, outcome, backbone)
        if model is not None:
            seed = derive_seed(study.spec.seed, f"fusion {outcome.key} {outcome.seed}")
            yield compare(see(model, sets), frozen, sets, study.spec.task.recipe, seed, methods)


def _rows(final: Final, trainings: Sequence[dict[str, Answers]], sets: Sets) -> Iterator[Detection]:
    known = len(sets.test_labels)
    for outliers, images in sets.outliers.items() if trainings else ():
        drawn = draws(known, len(images))
        for method in trainings[0]:
            own = [answers[method] for answers in trainings]
            for score in SCORES:
                yield Detection(
                    key=final.key,
                    name=final.finalist.name,
                    outliers=outliers,
                    method=method,
                    score=score,
                    **figures([(a.known[score], a.unknown[outliers][score]) for a in own], drawn),
                    accuracy=sum(a.accuracy for a in own) / len(own),
                    seeds=len(own),
                    test_images=known,
                    outlier_images=len(images),
                )
