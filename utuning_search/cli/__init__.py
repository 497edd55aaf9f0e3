"""The command line; the only place that prints. A module a command, imported once the command runs.

May import: everything; of libraries rich, which has its door here.
Start reading: `commands.py` for what there is, `main.py` for how it comes to run.
"""

from utuning_search.cli.main import main

__all__ = ["main"]
