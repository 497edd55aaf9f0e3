"""A user's own images, which nobody has split or looked at: some are kept for the test, copies on one side together."""

from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from utuning_search.data.copies import apart, fingerprint, grouped
from utuning_search.data.pixels import UnreadableError
from utuning_search.data.source import Part, Source
from utuning_search.data.splits import Labels, hold_out_each

# Up to here all images of a set that keeps its own for the test are decoded to look for copies; in larger ones they
# are compared byte by byte.
MOST_IMAGES, MOST_BYTES = 5_000, 128 << 20


class Own(Source):
    """Images whose test set lies apart, or is a share of each class (`DataSpec.held_out`)."""

    divided: ClassVar[bool] = True

    @abstractmethod
    def _untested(self) -> Part:
        """All images that do not lie apart for the test."""

    @abstractmethod
    def _tested(self) -> Part:
        """Those that do."""

    @abstractmethod
    def equal(self, *parts: Part) -> list[str]:
        """A fingerprint of each stored image of all parts; it may be empty where no other can be equal."""

    @abstractmethod
    def _bytes(self, part: Part) -> int:
        """What the images of a part take where they are stored, roughly."""

    def train(self) -> Part:
        return _rows(self._whole, self._division[0]) if self.spec.held_out else self._whole

    def _test(self) -> Part:
        return _rows(self._whole, self._division[1]) if self.spec.held_out else self._tested()

    @cached_property
    def _whole(self) -> Part:
        part = self._untested()

        def read(i: int) -> Tensor:
            kept = self._decoded.pop(i, None)
            return part.read(i) if kept is None else kept

        return replace(part, read=read)

    @cached_property
    def _decoded(self) -> dict[int, Tensor]:
        """Images that were decoded already, by row; each is given once."""
        return {}

    @cached_property
    def _division(self) -> tuple[Labels, Labels]:
        """Rows to train on and to test on, where the test images lie among the others."""
        labels = self._whole.labels
        second = np.zeros(len(labels), dtype=bool)
        second[hold_out_each(labels, self.spec.held_out)[1]] = True
        second = apart(labels, grouped(self._prints()), second)
        return np.flatnonzero(~second), np.flatnonzero(second)

    def _prints(self) -> list[str]:
        """Fingerprints of all images: of their pixels if that is soon done, which are then kept, or as stored."""
        whole = self._whole
        if len(whole.labels) > MOST_IMAGES or self._bytes(whole) > MOST_BYTES:
            return self.equal(whole)
        found = []
        for i in range(len(whole.labels)):
            try:
                image = whole.read(i)
            except UnreadableError:  # which is said when it is asked for
                found.append("")
            else:
                self._decoded[i] = image
                found.append(fingerprint(image))
        return found


def _rows(part: Part, rows: Labels) -> Part:
    """Some images of a part; each keeps its place among all of them in `splits.json`."""
    kept = [int(i) for i in rows]
    names = tuple(part.names[i] for i in kept) if part.names else ()
    return Part(part.labels[rows], lambda i: part.read(kept[i]), names, tuple(part.row(i) for i in kept))
