"""Finals that are measured once more, on images or with weights that their confirmation did not know."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn

from utuning_search.common.errors import StudyError
from utuning_search.common.locks import locked
from utuning_search.data.decoded import FinalData, Store
from utuning_search.results.finals import Confirmation
from utuning_search.results.kept import check_data
from utuning_search.results.outcomes import FINALS
from utuning_search.results.permitted import final_data
from utuning_search.results.study_data import search_context
from utuning_search.search.layout import IMAGES, removed, sweep
from utuning_search.search.study import Study
from utuning_search.training.context import SearchContext
from utuning_search.training.measuring import threads
from utuning_search.training.runtime import resolve_device
from utuning_search.training.trainer import settle


@dataclass(frozen=True)
class Reopened:
    """What finals are measured with.

    Attributes:
        context: Of the search.
        data: All training images, and those of the test.
        backbone: On the device.
        device: "cpu", "cuda" or "mps".
    """

    context: SearchContext
    data: FinalData
    backbone: nn.Module
    device: str


@contextmanager
def reopened(study: Study, found: Confirmation, device: str | None, data_dir: str | None) -> Iterator[Reopened]:
    """The images of a study's finals, while no other process confirms it.

    Args:
        study: That was confirmed.
        found: Its finals.
        device: As of `confirm`.
        data_dir: Where relative data paths are looked up; None for the study's own.

    Raises:
        StudyError: Other images than those of the finals, or another process confirms it.
    """
    kind = resolve_device(device or study.local.get("device", "auto"))
    folder = study.folder / FINALS
    store = Store.beside(folder / IMAGES)
    with removed(store), threads(1), ExitStack() as alone:
        alone.enter_context(locked(folder, study.name, "confirms"))
        sweep(folder, store)
        context = search_context(study, data_dir or study.local.get("data_dir"), store)
        data = final_data(study, context.preprocessing, data_dir or study.local.get("data_dir"), store)
        check_data(study, found.finals[0].outcomes[0], data.digest)
        yield Reopened(context, data, settle(context.backbone, kind), kind)


def no_weights(study: Study) -> StudyError:
    """What is raised where no final can be measured once more."""
    todo = f"Remove {study.folder / FINALS}, and confirm again."
    return StudyError(f"study '{study.name}'", "some final has kept its weights", "none", todo)
