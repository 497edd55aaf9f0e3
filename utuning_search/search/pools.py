"""What trains a study's trials on this machine: this process, or some of its own."""

from collections.abc import Callable

from utuning_search.data.decoded import Store
from utuning_search.search.objectives.registry import measures
from utuning_search.search.spec import StudySpec
from utuning_search.training.context import SearchContext
from utuning_search.training.pool import InlinePool, Pool, ProcessPool
from utuning_search.training.proxy import ProxyTrainer, never
from utuning_search.training.runtime import Runtime, default_workers, resolve_device, runtimes


def pool_for(
    spec: StudySpec,
    workers: int | None,
    device: str,
    data_dir: str | None,
    context: SearchContext,
    store: Store | None,
    asked: Callable[[], bool] = never,
) -> Pool:
    """Workers for a study's trials.

    Args:
        spec: Of the study.
        workers: Processes; None for one a core or GPU, 0 to train in this process.
        device: As an option names it.
        data_dir: Where relative data paths are looked up.
        context: The study's task, loaded.
        store: Its decoded images, where they lie in files.
        asked: Whether this process is to end, and its trials to pause.
    """
    kind = resolve_device(device)
    count = default_workers(kind) if workers is None else workers
    runtime, measured = Runtime(kind, spec.precision, data_dir), measures(spec.objectives)
    if count == 0:
        return InlinePool(ProxyTrainer(spec.task, runtime, context, measured), asked)
    images = None if store is None else store.folder
    return ProcessPool(spec.task, runtimes(runtime, count), images, measured)
