"""Images that are given from Python: a Dataset, arrays, or a split of Hugging Face's `datasets`."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import printable
from utuning_search.data.decoding import UNREADABLE, Opener
from utuning_search.data.listing import writable
from utuning_search.data.pictures import SAMPLES, opener_of
from utuning_search.data.pixels import UnreadableError, to_tensor
from utuning_search.data.source import Part, Source
from utuning_search.data.spec import STORED, DataSpec

IMAGES = Path("images")  # where they lie in a study's folder
FORMS = "it is a Dataset of (image, label), a pair of images and labels, or a split of `datasets` with image and label"
PLAIN = "Leave out ToTensor and Normalize: images are pictures of Pillow, arrays or uint8 tensors."


@dataclass(frozen=True)
class Pictures:
    """Some images.

    Attributes:
        picture: The image of a row, as it was given.
        labels: Names of classes, by row.
    """

    picture: Callable[[int], Any]
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, row: int) -> Image.Image:
        """The picture of a row; may fail as Pillow does."""
        try:
            return self.opener(row)()
        except UnreadableError as error:
            raise OSError(str(error)) from None

    def opener(self, row: int) -> Opener:
        """What opens the picture of a row.

        Raises:
            UnreadableError: It cannot be had.
            InputError: It is no picture.
        """
        try:
            given = self.picture(row)
        except UNREADABLE as error:
            raise UnreadableError(" ".join(str(error).split()) or type(error).__name__) from None
        if isinstance(given, Tensor):
            if given.dtype != torch.uint8 or given.ndim != 3 or len(given) not in SAMPLES:
                rule = f"a tensor is uint8 of (channels, height, width), channels {', '.join(map(str, SAMPLES))}"
                raise InputError(f"image {row}", rule, f"{given.dtype} of {tuple(given.shape)}", PLAIN)
            given = given.permute(1, 2, 0).numpy()
        try:
            return opener_of(given)
        except InputError as error:
            raise InputError(f"image {row}", error.rule, error.got, PLAIN) from None


@dataclass(frozen=True)
class OwnData:
    """What `own_data` makes of a user's images.

    Attributes:
        train: To train and to compare on, and to test on where `test` is None.
        test: For the test.
        classes: Names of the classes, in their order.
    """

    train: Pictures
    test: Pictures | None
    classes: tuple[str, ...]


def own_data(train: Any, test: Any = None, *, classes: Sequence[str] | None = None) -> OwnData:
    """Images and labels from Python, in the place of a folder: for `Study.create(data=...)`.

    They are decoded once, into the study's folder, and not needed afterwards.

    Args:
        train: A map-style Dataset of (image, label); a pair of images, uint8 (images, height, width) or (images,
            height, width, 1, 3 or 4), or a uint8 tensor (images, channels, height, width), and labels (images,); or a
            split of Hugging Face's `datasets` with the columns image and label. An image is a picture of Pillow's, an
            array or a uint8 tensor; a label is a number or a name.
        test: Images for the test, likewise; None keeps a fifth of each class of `train` for it.
        classes: Names by label; None for those that a dataset tells (`classes`, or a ClassLabel), else the labels.

    Raises:
        InputError: It is something else, or a label has no name.
    """
    names = tuple(map(str, classes)) if classes is not None else _names(train)
    if len(set(names)) < len(names):
        raise InputError("classes", "names of classes are different", printable(repr(names))[:80])
    found, tested = _pictures(train, names, "train"), None if test is None else _pictures(test, names, "test")
    present = set(found.labels)
    odd = next((name for name in sorted(present) if not writable(name)), None)
    if odd is not None:
        todo = "Rename the class: studies and exported tuners name their classes in files of UTF-8."
        raise InputError("classes", "names of classes are UTF-8", f"'{printable(odd)}'", todo)
    numbers = all(label.lstrip("-").isdecimal() for label in present)
    order = names or tuple(sorted(present, key=int if numbers else str))
    return OwnData(found, tested, tuple(name for name in order if name in present))


class Given(Source):
    """Images that are given from Python, as they are decoded into a study's folder."""

    def __init__(self, given: OwnData, preprocessing: Preprocessing) -> None:
        super().__init__(DataSpec(STORED, str(IMAGES)), preprocessing, None)
        self._given = given

    @property
    def where(self) -> str:
        return "images given"

    @property
    def classes(self) -> tuple[str, ...]:
        return self._given.classes

    def examples(self) -> Iterable[Opener]:
        train = self._given.train
        return (partial(train.open, row) for row in range(len(train)))

    def train(self) -> Part:
        return self._part(self._given.train, "train")

    def tested(self) -> Part:
        """Those for the test, to be written into the study's folder, where the guard is before them."""
        return self._part(self._given.test or Pictures(lambda row: row, ()), "test")

    def _test(self) -> Part:
        return self.tested()

    def _part(self, pictures: Pictures, split: str) -> Part:
        number = {name: i for i, name in enumerate(self.classes)}
        unknown = next((label for label in pictures.labels if label not in number), None)
        if unknown is not None:
            got = f"'{printable(unknown)}'"
            raise DataError(f"{split} images", "their classes are among those of training", got)
        names = tuple(f"{split} image {row}" for row in range(len(pictures)))

        def read(row: int) -> Tensor:
            return to_tensor(pictures.opener(row), self.preprocessing, self.decoder, names[row])

        return Part(np.array([number[label] for label in pictures.labels], dtype=np.int64), read, names)


def _pictures(given: Any, names: Sequence[str], split: str) -> Pictures:
    if isinstance(given, tuple | list) and len(given) == 2 and not isinstance(given[0], tuple):
        images, labels = given
        if not (hasattr(images, "__getitem__") and hasattr(labels, "__len__") and len(images) == len(labels)):
            raise InputError(f"{split} images", "there are as many labels as images", _shown(given))
        return Pictures(lambda row: images[row], _labels(labels, names, split))
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or isinstance(given, str | dict):
        raise InputError(f"{split} images", FORMS, _shown(given))
    columns = getattr(given, "column_names", None)
    if columns is not None:
        if not {"image", "label"} <= set(columns):
            raise InputError(f"{split} images", FORMS, f"columns {', '.join(map(str, columns))}", "Rename the columns.")
        return Pictures(lambda row: given[row]["image"], _labels(given["label"], names, split))
    labels = []
    for row in range(len(given)):
        pair = given[row]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"{split} image {row}", FORMS, _shown(pair))
        labels.append(pair[1])
    return Pictures(lambda row: given[row][0], _labels(labels, names, split))


def _labels(labels: Iterable[Any], names: Sequence[str], split: str) -> list[str]:
    """Names of classes, of numbers or names."""
    found = []
    for row, label in enumerate(labels):
        value = label
        with suppress(ValueError, RuntimeError):  # of an array or a tensor of several numbers
            value = label.item() if hasattr(label, "item") else label
        if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
            raise InputError(f"{split} image {row}", "its label is a number or a name", printable(repr(value))[:80])
        if names and isinstance(value, int):
            if not 0 <= value < len(names):
                rule = f"its label is from 0 to {len(names) - 1}, as there are {len(names)} names"
                raise InputError(f"{split} image {row}", rule, value)
            value = names[value]
        found.append(str(value))
    return found


def _names(given: Any) -> tuple[str, ...]:
    """Names of classes that a dataset tells, by label."""
    while isinstance(given, Subset):
        given = given.dataset
    features = getattr(given, "features", None)
    label = features.get("label") if isinstance(features, dict) else None
    names = getattr(label, "names", None) or getattr(given, "classes", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _shown(given: Any) -> str:
    inner = f" of {', '.join(type(x).__name__ for x in given)}" if isinstance(given, tuple | list) else ""
    return f"{type(given).__name__}{inner}"[:80]
