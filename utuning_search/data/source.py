"""What every source of images offers: training images for whoever asks, test images for who holds a permit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.data.decoding import Decoder, Opener
from utuning_search.data.permit import TestPermit, check_permit
from utuning_search.data.spec import DataSpec


@dataclass(frozen=True)
class Part:
    """The training or the test images of a source; listed at once, decoded one by one.

    Attributes:
        labels: int64 (images,).
        read: The image of a row as uint8 (channels, size, size); raises UnreadableError.
        names: Of the images, relative to the source's root; empty where they have none.
        rows: Where each image lies in the source's own order; None if that is this order.
    """

    labels: npt.NDArray[np.int64]
    read: Callable[[int], Tensor]
    names: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None

    def row(self, i: int) -> int:
        return i if self.rows is None else self.rows[i]

    def name(self, i: int) -> str:
        return self.names[i] if self.names else f"number {self.row(i)}"


class Source(ABC):
    """Images and labels of a task's data.

    A subclass says in `_test` how test images are read; nobody but `test` calls it, which asks for a permit first.

    Attributes:
        decoder: Of all its pictures.
        looked_at: Whether copies and images of one colour are looked for: yes, but in data that everybody knows.
        divided: Whether copies decide how images are split: not in published sets, whose splits are to stay.
    """

    looked_at: ClassVar[bool] = True
    divided: ClassVar[bool] = False

    def __init__(self, spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None) -> None:
        self.spec, self.preprocessing, self.data_dir = spec, preprocessing, data_dir
        self.decoder = Decoder(examples=self.examples)

    def examples(self) -> Iterable[Opener]:
        """Training pictures that settle how bright samples are read, see `Decoder`; none where none is deep."""
        return ()

    def notes(self) -> Iterator[str]:
        """What was done to some pictures, a line each."""
        return self.decoder.notes()

    @property
    @abstractmethod
    def where(self) -> str:
        """The source in the user's words, for messages."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names by label; may be empty before `train`."""

    @abstractmethod
    def train(self) -> Part:
        """Everything that is not for the test."""

    @abstractmethod
    def _test(self) -> Part:
        """The test images."""

    def test(self, permit: TestPermit | None) -> Part:
        """The test images.

        Raises:
            DataError: There is no permit.
        """
        check_permit(permit, self.where)
        return self._test()
