"""The permit without which no test image is read; only `utuning_search.results.permitted` may make one."""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.common.errors import DataError


@dataclass(frozen=True)
class TestPermit:
    """Leave to read the test images of a task, once its search is over."""

    __test__: ClassVar[bool] = False  # no test, whatever its name looks like to pytest


def check_permit(permit: TestPermit | None, where: str) -> None:
    """Raise DataError unless there is a permit."""
    if not isinstance(permit, TestPermit):
        todo = "A search compares designs on its validation split; finalists are measured by utuning-search confirm."
        raise DataError(where, "test images are read with a TestPermit only", "none", todo)
