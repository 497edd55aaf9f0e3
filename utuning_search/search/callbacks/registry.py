"""The one list of loggers: ours, and those of other distributions (entry point `utuning_search.loggers`)."""

from utuning_search.common.errors import InputError
from utuning_search.common.plugins import Registry
from utuning_search.search.callbacks.logger import Logger
from utuning_search.search.callbacks.mlflow import MLflowLogger
from utuning_search.search.callbacks.tensorboard import TensorBoardLogger

OURS: tuple[type[Logger], ...] = (TensorBoardLogger, MLflowLogger)
LOGGERS = Registry(
    "utuning_search.loggers",
    OURS,
    Logger,  # type: ignore[type-abstract]  # a base
    "kind",
)


def logger(text: str, where: str = "--log") -> Logger:
    """A logger of "KIND=PLACE", or of KIND alone where it has a place of its own.

    Raises:
        InputError: An unknown kind, a library that is not installed, or a place that cannot be one.
    """
    kind, _, place = text.partition("=")
    if kind not in LOGGERS:
        raise InputError(where, "it is written KIND=PLACE, with a KIND of logger", f"'{kind}'", LOGGERS.advice(kind))
    return LOGGERS[kind](place)
