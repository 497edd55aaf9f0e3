"""`utuning-search`: parse, dispatch, and turn errors into one line and exit code 2."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from utuning_search.cli import cite, confirm, explain, recommend, results, search
from utuning_search.common.errors import UTuningError
from utuning_search.search.storage import quiet_optuna

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 2 bad input or a refusal, 130 stopped by Ctrl-C."""
    arguments = _parser().parse_args(argv)
    quiet_optuna()
    previous = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        code: int = arguments.run(arguments)
        return code
    except UTuningError as error:
        print(f"utuning-search: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("utuning-search: stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); Python would complain again while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _as_interrupt(signum: int, frame: object) -> NoReturn:
    del signum, frame
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="utuning-search",
        description="Search parameter-efficient tuner designs for a frozen vision transformer.",
        epilog="Start with: utuning-search run --space full",
    )
    parser.add_argument("--version", action="version", version=f"utuning-search {version('utuning-search')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    search.add_commands(commands)
    confirm.add_commands(commands)
    recommend.add_commands(commands)
    results.add_commands(commands)
    explain.add_commands(commands)
    cite.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
