"""`--launcher submitit`: each worker is a job of Slurm's, or without Slurm a process here; the door of submitit."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from utuning_search.cli.launched import work
from utuning_search.cli.launching import OPTION, Ended, Launch, Value
from utuning_search.cli.options import STORAGE
from utuning_search.common.environment import environment
from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.extras import needs

LOOK = 2.0  # seconds between looks at jobs
LOGS = "submitit"  # folder in that of the study, with what jobs print
USUAL: dict[str, Value] = {"timeout_min": 240, "cpus_per_task": 1, "mem_gb": 4}


def check(options: dict[str, Value]) -> None:
    with needs("submitit", f"{OPTION} submitit"):
        import submitit  # noqa: F401  # before anything begins
    _executor(Path(LOGS), options)


def launch(wanted: Launch, on_change: Callable[[int, int], None]) -> list[Ended]:
    """See `launching`; one worker unless told otherwise."""
    import submitit

    count = wanted.workers or 1
    executor = _executor(wanted.folder / LOGS / "%j", {"name": f"utuning-{wanted.study}", **wanted.options})
    try:
        # The storage's URL goes by the environment that jobs are given: what is submitted lies in files.
        with environment(**{STORAGE: wanted.storage}), executor.batch():
            jobs = [executor.submit(Worker(), wanted.arguments) for _ in range(count)]
    except (OSError, submitit.core.utils.FailedJobError) as error:
        got = " ".join(str(error).split())[:200]
        raise StudyError(f"{OPTION} submitit", "jobs can be submitted", got, "Look at its options.") from None
    _wait(jobs, on_change)
    return [_ended(job) for job in jobs]


def _executor(folder: Path, options: dict[str, Value]) -> Any:
    """Submitit's; it writes nothing before a job is submitted.

    Raises:
        InputError: It has not these options.
    """
    import submitit

    given = {**USUAL, **options}
    cluster = str(given.pop("cluster")) if "cluster" in given else None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**given)
    except (ValueError, NameError, TypeError, RuntimeError) as error:
        raise InputError(f"{OPTION} submitit", "its options are submitit's", " ".join(str(error).split())) from None
    return executor


class Worker:
    """A job. At its time limit, or when others are to have its place, it ends as after SIGTERM, and is submitted again.

    Submitit does so at once when SIGUSR2 comes; here it does once the trials have been given back.
    """

    def __call__(self, arguments: Sequence[str]) -> str:
        again, came = signal.getsignal(signal.SIGUSR2), []

        def end(number: int, frame: object) -> None:
            del frame
            came.append(number)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGUSR2, end)
        try:
            reason = work(arguments)
        finally:
            signal.signal(signal.SIGUSR2, again)
        if came and callable(again):
            again(signal.SIGUSR2, None)
        return reason

    def checkpoint(self, arguments: Sequence[str]) -> Any:
        """What is submitted again: the study has all that is known."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, arguments)


def _wait(jobs: Sequence[Any], on_change: Callable[[int, int], None]) -> None:
    try:
        while left := sum(not job.done() for job in jobs):
            on_change(left, len(jobs))
            time.sleep(LOOK)
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel()
        raise


def _ended(job: Any) -> Ended:
    where = f"job {job.job_id}"
    error = job.exception()
    if error is None:
        return Ended(where, job.result())
    said = str(error).strip().splitlines()
    return Ended(where, f"{said[-1] if said else type(error).__name__} (see {job.paths.stderr})")
