"""`--launcher ray`: each worker is a task of Ray's, with a GPU of its own where there are some; the door of ray."""

import logging
import signal
from collections.abc import Callable, Sequence
from typing import Any

from utuning_search.cli.launched import work
from utuning_search.cli.launching import OPTION, Ended, Launch, Value
from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.extras import needs

LOOK = 5.0  # seconds between looks at the study
LEAVING = 60.0  # seconds in which tasks that are stopped give their trials back
OPTIONS = ("num_cpus", "num_gpus", "memory", "accelerator_type", "max_retries")


def check(options: dict[str, Value]) -> None:
    with needs("ray", f"{OPTION} ray"):
        import ray  # noqa: F401  # before anything begins
    for name in options:
        if name not in OPTIONS:
            raise InputError(f"{OPTION} ray", f"its options are {', '.join(OPTIONS)}", f"'{name}'")


def launch(wanted: Launch, on_change: Callable[[int, int], None]) -> list[Ended]:
    """See `launching`. The cluster is that of $RAY_ADDRESS, or the one on this machine, or a new one here."""
    import ray

    heeded = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        got = " ".join(str(error).split())[:200]
        raise StudyError(f"{OPTION} ray", "the cluster can be reached", got, "Look at $RAY_ADDRESS.") from None
    signal.signal(signal.SIGTERM, heeded)  # Ray's own ends this process at once, and leaves trials running
    try:
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0)) if wanted.gpus else 0
        count = wanted.workers or gpus or int(found.get("CPU", 0)) or 1
        needed: dict[str, Value] = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, **wanted.options}
        task = ray.remote(_task).options(**needed)
        tasks = [task.remote(wanted.arguments, wanted.storage) for _ in range(count)]
        _wait(tasks, on_change)
        return [_ended(one, number) for number, one in enumerate(tasks)]
    finally:
        ray.shutdown()


def _task(arguments: Sequence[str], storage: str) -> tuple[str, str]:
    """The node of a worker, and why it did not end well."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return f"node {node}", work(arguments, storage)


def _wait(tasks: Sequence[Any], on_change: Callable[[int, int], None]) -> None:
    import ray

    left = list(tasks)
    try:
        while left:
            on_change(len(left), len(tasks))
            _, left = ray.wait(left, num_returns=len(left), timeout=LOOK)
    except KeyboardInterrupt:
        for one in left:
            ray.cancel(one)
        ray.wait(left, num_returns=len(left), timeout=LEAVING)
        raise


def _ended(task: Any, number: int) -> Ended:
    import ray

    try:
        return Ended(*ray.get(task))
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()
        return Ended(f"worker {number}", said[0] if said else type(error).__name__)
