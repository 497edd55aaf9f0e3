"""The one module that permits itself to read test images: for finals, and for what is measured of them afterwards."""

from pathlib import Path

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.data.decoded import FinalData, Store
from utuning_search.data.loading import check_test_data, load_final_data
from utuning_search.data.permit import TestPermit
from utuning_search.search.study import Study
from utuning_search.training.context import SearchContext, data_path
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task


def final_data(
    study: Study, preprocessing: Preprocessing, data_dir: str | None = None, store: Store | None = None
) -> FinalData:
    """The full training split and the test split of a study's task; see `load_final_data`."""
    place = data_path(study.spec.task, data_dir, study.folder)
    return load_final_data(study.spec.task.data, preprocessing, place, permit=TestPermit(), store=store)


def restored(images: Path) -> FinalData:
    """The same from the folder that `FinalData.save` wrote."""
    return FinalData.restore(images, permit=TestPermit())


def look_ahead(task: Task, context: SearchContext, data_dir: str | None = None) -> tuple[str, ...]:
    """Whether a confirmation will find what it needs, asked before the search: test images, their classes and names.

    Args:
        task: To be searched on.
        context: The task, loaded.
        data_dir: Where relative data paths are looked up.

    Returns:
        What is odd about the test images, a line each.

    Raises:
        DataError, InputError: A confirmation would be refused, and why.
    """
    path = context.data_path or Runtime(data_dir=data_dir).data_path
    return check_test_data(task.data, context.preprocessing, context.data, path, permit=TestPermit())
