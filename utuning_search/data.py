"""Images and labels in memory, split by seed; the doors to torchvision and scikit-learn.

A search sees the proxy and the validation split only. No function here reads a test image.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import ImageFolder
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


def split_indices(
    labels: npt.NDArray[np.int64], spec: DataSpec, where: str, classes: tuple[str, ...] = ()
) -> tuple[list[int], list[int]]:
    """Stratified, disjoint indices of the proxy and the validation split; `classes` are names for messages."""
    counts = np.bincount(labels)
    if len(labels) < spec.proxy + spec.validation:
        got = f"{len(labels)} training images for proxy {spec.proxy} + validation {spec.validation}"
        raise DataError(where, "proxy and validation fit into the training images", got, "Lower proxy or validation.")
    if np.count_nonzero(counts) < 2:
        raise DataError(where, "there are at least two classes", f"{np.count_nonzero(counts)}")
    if counts.min() < 2:
        poorest = int(counts.argmin())
        name = f"'{classes[poorest]}'" if classes else str(poorest)
        raise DataError(where, "every class has at least 2 training images", f"class {name} has {counts[poorest]}")
    everything, wanted = np.arange(len(labels)), spec.proxy + spec.validation
    if wanted < len(labels) < wanted + len(counts):
        # A remainder cannot be stratified either unless it has an image a class.
        todo = f"Make proxy + validation {len(labels)}, or at most {len(labels) - len(counts)}."
        rule = "what is left out has none or at least an image a class"
        raise DataError(where, rule, f"{len(labels) - wanted} of {len(labels)}", todo)
    try:
        if len(labels) > wanted:
            everything, _ = train_test_split(everything, train_size=wanted, stratify=labels, random_state=spec.seed)
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
    except OSError as error:
        todo = "Lay images out as train/<class>/<image>."
        raise DataError(where, "every class has a folder with images", str(error).splitlines()[0], todo) from None
    labels = np.array([label for _, label in listing.samples], dtype=np.int64)
    proxy, validation = split_indices(labels, spec, where, tuple(listing.classes))
    splits = []
    for rows in (proxy, validation):
        images = torch.stack([_read(listing.samples[i][0], preprocessing) for i in rows])
        splits.append(Split(images, torch.from_numpy(labels[rows])))
    return splits[0], splits[1], tuple(listing.classes)


def _read(path: str, preprocessing: Preprocessing) -> Tensor:
    """One image as uint8 (channels, size, size): shorter side resized, centre cropped."""
    try:
        pixels = _pixels(path, "L" if preprocessing.channels == 1 else "RGB")
    except UnidentifiedImageError:  # its message names the file a second time
        said: object = "no image of a known format"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: broken PNG chunks
        said = error
    else:
        image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
        size = preprocessing.image_size
        image = v2.functional.resize(image, [size], InterpolationMode(preprocessing.interpolation), antialias=True)
        cropped: Tensor = v2.functional.center_crop(image, [size, size])
        return cropped
    raise DataError(f"image {path}", "the file is a readable image", said, "Replace or remove the file.")


def _pixels(path: str, mode: str) -> npt.NDArray[np.uint8]:
    """Pixels (height, width) in mode "L" or (height, width, 3) in "RGB"; the first picture of an animation."""
    with Image.open(path) as opened:
        picture: Image.Image = opened
        if picture.mode.startswith("I;16"):  # 16 bits a pixel, which Pillow would cut off at 255
            picture = Image.fromarray((np.array(picture) >> 8).astype(np.uint8))
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")
        return np.array(picture.convert(mode))


# What only confirm.py may read: all training images, and the test split.


class TestPermit:
    """What `load_final_data` asks for. Only confirm.py makes one, so that no search can read a test image."""

    __test__ = False  # no test, whatever its name looks like to pytest


@dataclass(frozen=True)
class FinalData:
    """What finalists are trained and measured on.

    Attributes:
        train: All training images: proxy, validation and what neither of them took.
        test: Measured on once a finalist is trained.
        classes: Names by label.
        digest: Twelve hexadecimal digits that change with any image or label.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    digest: str


def load_final_data(
    spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None = None, *, permit: TestPermit
) -> FinalData:
    """The whole training split and the test split of a task.

    Raises:
        DataError: No test images, other classes than the training images', or a file that is no image (named).
        InputError: The image folder is not there.
    """
    if not isinstance(permit, TestPermit):
        raise DataError("test split", "only finalists are measured on it", type(permit).__name__)
    if spec.source == "digits":
        loaded = load_digits()
        labels = torch.from_numpy(loaded.target.astype(np.int64))
        pixels = torch.from_numpy(np.rint(loaded.images * (255 / DIGITS_MAX)).astype(np.uint8)).unsqueeze(1)
        parts = train_test_split(np.arange(len(labels)), test_size=DIGITS_TEST, stratify=labels, random_state=0)
        train, test = (Split(pixels[rows], labels[rows]) for rows in parts)
        classes = tuple(str(d) for d in range(10))
    else:
        root = find_data(spec.root, data_dir, "task data, root")
        splits: dict[str, tuple[Split, tuple[str, ...]]] = {}
        for name in ("train", "test"):
            try:
                listing = ImageFolder(str(root / name))
            except OSError as error:
                todo = f"Lay images out as {name}/<class>/<image>."
                said = str(error).splitlines()[0]
                raise DataError(f"image folder {root / name}", "every class has images", said, todo) from None
            images = torch.stack([_read(path, preprocessing) for path, _ in listing.samples])
            splits[name] = (Split(images, torch.tensor([y for _, y in listing.samples])), tuple(listing.classes))
        (train, classes), (test, others) = splits["train"], splits["test"]
        if others != classes:
            odd = ", ".join(sorted(set(classes) ^ set(others))[:5])
            raise DataError(f"image folder {root}", "train and test have the same classes", f"only one has {odd}")
    content = hashlib.sha256()
    for tensor in (train.images, train.labels, test.images, test.labels):
        content.update(tensor.numpy().tobytes())
    return FinalData(train, test, classes, content.hexdigest()[:12])
