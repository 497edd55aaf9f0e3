"""Tables of images, a row each: where it is, its class, its split; a CSV and Parquet files are read into the same."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image
from torch import Tensor

from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import listed, printable
from utuning_search.data.decoding import Opener
from utuning_search.data.layout import check_same, refuse_splits
from utuning_search.data.own import Own
from utuning_search.data.pixels import to_tensor
from utuning_search.data.places import find_data
from utuning_search.data.source import Part

TRAIN, VALIDATION, TEST = SPLITS = "train", "validation", "test"
ALIASES = {"val": VALIDATION, **{name: name for name in SPLITS}}
RULE = "every image has a row with its class"
LONGEST = 255  # letters of a class's name, as of a folder's; a longer label is a text about the image


class Table(ABC):
    """Images by row.

    Attributes:
        where: The table in the user's words, for messages.
        names: Of the images, by row.
        labels: Names of their classes, by row.
        splits: "train", "validation" or "test", by row.
        order: Names of classes in the table's own order; empty where it has none, and they are sorted.
        unlabelled: Splits that were left out because nothing in them has a class.
    """

    def __init__(
        self,
        where: str,
        names: Sequence[str],
        labels: Sequence[str],
        splits: Sequence[str],
        order: Sequence[str] = (),
        unlabelled: Sequence[str] = (),
    ) -> None:
        self.where, self.names, self.labels, self.splits = where, names, labels, np.array(splits, dtype=object)
        self.order, self.unlabelled = order, tuple(unlabelled)

    @abstractmethod
    def open(self, row: int) -> Image.Image:
        """The picture of a row; may fail as Pillow does."""

    @abstractmethod
    def examples(self, rows: Iterable[int]) -> list[Opener]:
        """What opens those pictures of rows that may leave open how they are read."""

    @abstractmethod
    def size(self, rows: Sequence[int]) -> int:
        """What the pictures of rows take, roughly."""

    @abstractmethod
    def equal(self, rows: Sequence[int]) -> list[str]:
        """A fingerprint of each stored picture, or an empty one where no other can be equal."""

    @property
    def tested_on(self) -> str:
        """The split that is for the test: "test", or "validation" where there is none; or empty."""
        return next((split for split in (TEST, VALIDATION) if (self.splits == split).any()), "")

    def rows(self, split: str) -> list[int]:
        return [int(row) for row in np.flatnonzero(self.splits == split)]

    def classes(self, split: str = TRAIN) -> list[str]:
        """Of a split.

        Raises:
            DataError: One is called like a split, among others that are not.
        """
        found = {self.labels[row] for row in self.rows(split)}
        refuse_splits(self.where, found)
        return [name for name in self.order if name in found] if self.order else sorted(found)

    def refuse(self, rule: str, got: str, todo: str = "") -> NoReturn:
        raise DataError(self.where, rule, printable(got), todo)


class Tabular(Own):
    """Images of a table. Those of its split "test", or else of "validation", are for the test."""

    @staticmethod
    @abstractmethod
    def read(place: Path) -> Table:
        """The table at a place."""

    @cached_property
    def _table(self) -> Table:
        return self.read(find_data(self.spec.root, self.data_dir, "task data, root"))

    @property
    def where(self) -> str:
        return self._table.where

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._table.classes())

    def examples(self) -> Iterable[Opener]:
        return self._table.examples(self._table.rows(TRAIN))

    def equal(self, *parts: Part) -> list[str]:
        return self._table.equal([part.row(i) for part in parts for i in range(len(part.labels))])

    def _bytes(self, part: Part) -> int:
        return self._table.size([part.row(i) for i in range(len(part.labels))])

    def _untested(self) -> Part:
        apart = self._table.tested_on
        if self.spec.held_out and apart:
            todo = "Take held_out out of the task, or the rows out of the table."
            raise InputError(self.where, "held_out is for tables without a test split", f"rows of '{apart}'", todo)
        return self._part(TRAIN)

    def _tested(self) -> Part:
        split = self._table.tested_on
        if not split:
            todo = "Give some rows the split 'test', or held_out = 0.2 in the task's data."
            self._table.refuse("some rows are for the test", "none", todo)
        check_same(self.where, self.classes, self._table.classes(split), TRAIN, split, scarce=self.spec.scarce)
        return self._part(split)

    def _part(self, split: str) -> Part:
        table, rows = self._table, self._table.rows(split)
        if not rows:
            table.refuse(RULE, f"none with the split '{split}'")
        number = {name: i for i, name in enumerate(self.classes)}
        names = tuple(table.names[row] for row in rows)

        def read(i: int) -> Tensor:
            return to_tensor(partial(table.open, rows[i]), self.preprocessing, self.decoder, names[i])

        labels = np.array([number[table.labels[row]] for row in rows], dtype=np.int64)
        return Part(labels, read, names, tuple(rows))


def check_label(label: str, at: str, counted: str = "") -> None:
    """Refuse a label that names no class; `counted` says how the rows of `at` count.

    Raises:
        DataError: It is empty, or longer than a name.
    """
    if not label.strip():
        raise DataError(at, "it names a class", "an empty label", f"Give it a label, or remove the row{counted}.")
    if len(label) > LONGEST:
        got = f"{len(label):,} of '{printable(label[:20])}...'"
        raise DataError(at, f"a class's name has at most {LONGEST} letters", got, f"Give a short label{counted}.")


def split_of(value: str) -> str:
    """The split that a table means; empty for none that is known."""
    return ALIASES.get(value.strip().lower(), "")


def splits_named() -> str:
    return listed(f"'{name}'" for name in ALIASES)
