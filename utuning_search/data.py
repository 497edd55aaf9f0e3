"""Images and labels in memory, split by seed; the doors to torchvision and scikit-learn.

A search sees the proxy and the validation split only. No function here reads a test image.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode, v2

from utuning_search.backbone import Preprocessing
from utuning_search.errors import DataError
from utuning_search.task import DataSpec, find_data

DIGITS_TEST = 450  # of 1,797: the same images for every seed, so that studies can be compared
DIGITS_MAX = 16


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 (images, channels, height, width), and int64 labels (images,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SearchData:
    """What trials are trained and compared on.

    Attributes:
        proxy: Trained on.
        validation: Compared on.
        classes: Names by label.
        digest: Twelve hexadecimal digits that change with any image, label or split.
    """

    proxy: Split
    validation: Split
    classes: tuple[str, ...]
    digest: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def load_search_data(spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None = None) -> SearchData:
    """The proxy and validation splits of a task.

    Raises:
        DataError: Too few images, a class with too few of them, or a file that is no image (named).
        InputError: The image folder is not there.
    """
    if spec.source == "digits":
        proxy, validation, classes = _digits(spec)
    else:
        proxy, validation, classes = _image_folder(spec, preprocessing, data_dir)
    content = hashlib.sha256()
    for tensor in (proxy.images, proxy.labels, validation.images, validation.labels):
        content.update(tensor.numpy().tobytes())
    return SearchData(proxy, validation, classes, content.hexdigest()[:12])


def split_indices(labels: npt.NDArray[np.int64], spec: DataSpec, where: str) -> tuple[list[int], list[int]]:
    """Stratified, disjoint indices of the proxy and the validation split."""
    counts = np.bincount(labels)
    smallest = int(counts[counts > 0].min()) if len(labels) else 0
    if len(labels) < spec.proxy + spec.validation:
        got = f"{len(labels)} training images for proxy {spec.proxy} + validation {spec.validation}"
        raise DataError(where, "proxy and validation fit into the training images", got, "Lower proxy or validation.")
    if np.count_nonzero(counts) < 2:
        raise DataError(where, "there are at least two classes", f"{np.count_nonzero(counts)}")
    if smallest < 2:
        raise DataError(
            where, "every class has at least 2 training images", f"class {int(counts.argmin())} has {smallest}"
        )
    everything = np.arange(len(labels))
    if len(labels) > spec.proxy + spec.validation:
        everything, _ = train_test_split(
            everything, train_size=spec.proxy + spec.validation, stratify=labels, random_state=spec.seed
        )
    try:
        proxy, validation = train_test_split(
            everything, train_size=spec.proxy, stratify=labels[everything], random_state=spec.seed
        )
    except ValueError as error:
        raise DataError(where, "splits can be stratified by class", error, "Raise proxy and validation.") from None
    return sorted(map(int, proxy)), sorted(map(int, validation))


def _digits(spec: DataSpec) -> tuple[Split, Split, tuple[str, ...]]:
    loaded = load_digits()
    labels = loaded.target.astype(np.int64)
    train, _ = train_test_split(np.arange(len(labels)), test_size=DIGITS_TEST, stratify=labels, random_state=0)
    images = torch.from_numpy(np.rint(loaded.images[train] * (255 / DIGITS_MAX)).astype(np.uint8)).unsqueeze(1)
    targets = torch.from_numpy(labels[train])
    proxy, validation = split_indices(labels[train], spec, "task data 'digits'")
    splits = [Split(images[rows], targets[rows]) for rows in (proxy, validation)]
    return splits[0], splits[1], tuple(str(d) for d in range(10))


def _image_folder(
    spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None
) -> tuple[Split, Split, tuple[str, ...]]:
    root = find_data(spec.root, data_dir, "task data, root") / "train"
    where = f"image folder {root}"
    try:
        listing = ImageFolder(str(root))
    except FileNotFoundError as error:
        todo = "Lay images out as train/<class>/<image>."
        raise DataError(where, "every class has a folder with images", str(error).splitlines()[0], todo) from None
    labels = np.array([label for _, label in listing.samples], dtype=np.int64)
    proxy, validation = split_indices(labels, spec, where)
    splits = []
    for rows in (proxy, validation):
        images = torch.stack([_read(listing.samples[i][0], preprocessing) for i in rows])
        splits.append(Split(images, torch.from_numpy(labels[rows])))
    return splits[0], splits[1], tuple(listing.classes)


def _read(path: str, preprocessing: Preprocessing) -> Tensor:
    """One image as uint8 (channels, size, size): shorter side resized, centre cropped."""
    mode = ImageReadMode.GRAY if preprocessing.channels == 1 else ImageReadMode.RGB
    try:
        image = decode_image(path, mode=mode)
    except (RuntimeError, ValueError) as error:
        todo = "Replace or remove the file."
        raise DataError(f"image {path}", "the file is a readable image", str(error).splitlines()[0], todo) from None
    size = preprocessing.image_size
    image = v2.functional.resize(image, [size], InterpolationMode(preprocessing.interpolation), antialias=True)
    cropped: Tensor = v2.functional.center_crop(image, [size, size])
    return cropped
