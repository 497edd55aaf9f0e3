"""A study's backbone and images, once it is known that these are the images it was created with."""

from torch import nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import StudyError
from utuning_search.data.decoded import Store
from utuning_search.results.outcomes import FINALS
from utuning_search.search.layout import images_in, removed
from utuning_search.search.study import Study
from utuning_search.training.context import SearchContext, load_search


def search_context(study: Study, data_dir: str | None, store: Store | None = None) -> SearchContext:
    """What the study's trials had.

    Args:
        study: Whose.
        data_dir: Where relative data paths are looked up.
        store: Where images are decoded to; the caller removes it. None for memory.

    Raises:
        StudyError: The images are others.
    """
    context = load_search(study.spec.task, data_dir, store=store, home=study.folder)
    found = context.data.digest
    if found != study.spec.data:
        todo = "Give the data it was created with, or start a new study."
        raise StudyError(f"study '{study.name}', data", f"its digest is {study.spec.data}", found, todo)
    return context


def checked_backbone(study: Study, data_dir: str | None) -> tuple[nn.Module, Preprocessing]:
    """Its backbone and how its images are prepared; the images are looked at and not kept.

    Raises:
        StudyError: They are others.
    """
    store = images_in(study.folder / FINALS, study.spec.task)
    with removed(store):
        context = search_context(study, data_dir, store)
        return context.backbone, context.preprocessing
