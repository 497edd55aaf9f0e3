"""`utuning-search`: parse, dispatch, and turn errors into one line and exit code 2."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from utuning_search.cli.commands import module_of
from utuning_search.cli.options import JSON
from utuning_search.cli.parser import make_parser
from utuning_search.cli.stopped import STOPPED, Stopped
from utuning_search.cli.streams import accept_any_text, complain, open_closed, say, stopped_at_once
from utuning_search.common.errors import UTuningError
from utuning_search.common.lazy import load


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 2 bad input or a refusal, 130 stopped by Ctrl-C."""
    open_closed()
    arguments = make_parser().parse_args(argv)
    previous = signal.getsignal(signal.SIGTERM)
    try:
        accept_any_text()
        with stopped_at_once():
            run = load(module_of(arguments.command), "run")
        signal.signal(signal.SIGTERM, _as_interrupt)
        code: int = run(arguments)
        return code
    except UTuningError as error:
        complain(f"error: {error}")
        return 2
    except Stopped as stopped:
        if getattr(arguments, "format", "") == JSON:  # standard output is another program's
            complain(str(stopped))
        else:
            say(f"\n{stopped}")
        return STOPPED
    except KeyboardInterrupt:
        complain("stopped.")
        return STOPPED
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); Python would complain again while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # of a name that no file can have, a folder that may not be read, and the like
        place = "what is printed" if error.filename is None else f"file {error.filename}"
        complain(f"error: {place}: it can be used; got {error.strerror or error}.")
        return 2
    finally:
        signal.signal(signal.SIGTERM, previous)


def _as_interrupt(signum: int, frame: object) -> NoReturn:
    del signum, frame
    raise KeyboardInterrupt
