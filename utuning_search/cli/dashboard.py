"""`dashboard`: Optuna's dashboard on a study's storage; the one door of its library.

It knows no passwords and can delete studies, so that nobody but this machine reaches it.
"""

import argparse
import errno
import sys
from contextlib import suppress
from io import StringIO
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from utuning_search.cli.streams import complain, say
from utuning_search.cli.studies import load_study
from utuning_search.common.errors import InputError
from utuning_search.common.extras import needs
from utuning_search.search.masking import masked
from utuning_search.search.storage import Storage

HOST = "127.0.0.1"
LAST = 65_535  # port


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.port <= LAST:
        raise InputError("--port", f"it is from 0, which takes any that is free, to {LAST}", arguments.port)
    with needs("dashboard", "dashboard"):  # before a study is opened
        import optuna_dashboard  # noqa: F401  # it is asked for again below
    study = load_study(arguments)
    with server(study.storage, arguments.port, arguments.storage or "") as serving:
        say(f"Dashboard  {address(study.storage, study.name, serving.server_port)}")
        say("Only this machine reaches it. It can delete studies. Ctrl-C ends it.")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            serving.serve_forever()
    return 0


def server(storage: Storage, port: int, url: str = "") -> WSGIServer:
    """Listens to this machine alone; `serve_forever` answers.

    Args:
        storage: To show, all studies in it.
        port: To listen at; 0 for any that is free.
        url: Of the storage, for what must not be printed of it.

    Raises:
        InputError: The port is taken, or not for everybody.
    """
    from optuna_dashboard import wsgi

    class Handler(WSGIRequestHandler):
        """Says nothing of requests, and of errors what may be said."""

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def get_stderr(self) -> StringIO:
            return _Masked(url)

    try:
        return make_server(HOST, port, wsgi(storage), server_class=_Server, handler_class=Handler)
    except OSError as error:
        got = "another program's" if error.errno == errno.EADDRINUSE else error.strerror
        raise InputError(f"--port {port}", "it is free", got, "Give another one, or 0 for any.") from None


def address(storage: Storage, name: str, port: int) -> str:
    """Where a browser finds a study of the storage."""
    return f"http://{HOST}:{port}/dashboard/studies/{storage.get_study_id_from_name(name)}"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # whoever ends it waits for no browser


class _Masked(StringIO):
    """Says on standard error what is written to it, without what gives access to a storage."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def write(self, text: str) -> int:
        if text.strip():
            complain(f"dashboard: {masked(text, self._url)}")
        return len(text)
