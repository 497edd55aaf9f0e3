"""The command line; the only place that prints."""

from utuning_search.cli.main import main

__all__ = ["main"]
