"""What runs where a launcher starts a worker: `utuning-search worker`, in a process that does nothing else."""

import os
import signal
from collections.abc import Sequence

from utuning_search.cli import worker
from utuning_search.cli.options import STORAGE
from utuning_search.cli.parser import make_parser
from utuning_search.cli.stopped import Stopped
from utuning_search.common.errors import UTuningError


def work(arguments: Sequence[str], storage: str = "") -> str:
    """Join a study and train its trials until its budget is spent.

    Args:
        arguments: Of `utuning-search worker`.
        storage: URL of the study's storage; empty where the environment has it.

    Returns:
        Why it did not end well, in one line; or empty.
    """
    if storage:
        os.environ[STORAGE] = storage  # not among the arguments: those are shown
    before = signal.getsignal(signal.SIGTERM)
    try:
        worker.run(make_parser().parse_args(["worker", *arguments]))
    except UTuningError as error:
        return str(error)
    except (Stopped, KeyboardInterrupt):
        return "stopped"
    finally:
        signal.signal(signal.SIGTERM, before)
    return ""
