"""The handwritten digits that scikit-learn ships: 1,797 grey images of 8x8 pixels."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from utuning_search.data.pixels import to_tensor
from utuning_search.data.source import Part, Source
from utuning_search.data.splits import hold_out

TEST = 450  # of 1,797
MAX = 16


class Digits(Source):
    """The embedded backbone takes the digits as they are, 8x8 and grey; for others they are enlarged."""

    looked_at = False  # some are equal, as every study on them knew

    @property
    def where(self) -> str:
        return "task data 'digits'"

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    def train(self) -> Part:
        return self._part(0)

    def _test(self) -> Part:
        return self._part(1)

    def _part(self, which: int) -> Part:
        from sklearn.datasets import load_digits  # takes seconds, which those who load a tuner need not wait

        loaded = load_digits()
        labels: npt.NDArray[np.int64] = loaded.target.astype(np.int64)
        rows = hold_out(labels, TEST)[which]

        def read(i: int) -> Tensor:
            pixels = np.rint(loaded.images[rows[i]] * (255 / MAX)).astype(np.uint8)
            return to_tensor(lambda: Image.fromarray(pixels), self.preprocessing)

        return Part(labels[rows], read, rows=tuple(map(int, rows)))
