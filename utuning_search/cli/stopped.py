"""What is said, and which exit code is given, after Ctrl-C."""

STOPPED = 130  # as shells have it: 128 and the number of SIGINT


class Stopped(Exception):
    """Raised by a command that was stopped and has kept all that was finished.

    Attributes:
        again: The command that goes on, without the program's name; empty where it is the one that was stopped.
    """

    def __init__(self, again: str = "") -> None:
        self.again = again
        way = f"Go on with:\n  utuning-search {again}" if again else "The same command goes on."
        super().__init__(f"Stopped; all that was finished is kept. {way}")
