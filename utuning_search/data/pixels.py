"""Pictures to uint8 tensors of a backbone's size; a door to torchvision."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from utuning_search.backbones.preprocessing import Preprocessing

LONGEST = 32  # times the shorter side: what is longer is cut first, as its resized whole might not fit into memory


class UnreadableError(Exception):
    """A picture that cannot be read; the message says why, in one line."""


def to_tensor(opened: Callable[[], Image.Image], preprocessing: Preprocessing) -> Tensor:
    """One image as uint8 (channels, size, size): shorter side resized, centre cropped.

    Args:
        opened: Opens the picture, which is closed here; may fail as Pillow does.
        preprocessing: Size, channels and interpolation.

    Raises:
        UnreadableError: It cannot be opened or decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large ones are meant; bombs still raise
            with opened() as picture:
                pixels = _pixels(picture, "L" if preprocessing.channels == 1 else "RGB")
    except UnidentifiedImageError:  # its message names the file, as the caller will
        raise UnreadableError("no image of a known format") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: broken PNG chunks
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(" ".join(said.split())) from None
    image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    size, longest = preprocessing.image_size, LONGEST * min(image.shape[1:])
    if max(image.shape[1:]) > longest:
        image = v2.functional.center_crop(image, [min(n, longest) for n in image.shape[1:]])
    image = v2.functional.resize(image, [size], InterpolationMode(preprocessing.interpolation), antialias=True)
    cropped: Tensor = v2.functional.center_crop(image, [size, size])
    return cropped


def read_file(path: Path | str, preprocessing: Preprocessing) -> Tensor:
    """An image file as `to_tensor` gives it; the first picture of an animation."""
    return to_tensor(lambda: Image.open(path), preprocessing)


def _pixels(picture: Image.Image, mode: str) -> npt.NDArray[np.uint8]:
    """Pixels (height, width) in mode "L" or (height, width, 3) in "RGB"."""
    if picture.mode.startswith("I;16"):  # 16 bits a pixel, which Pillow would cut off at 255
        picture = Image.fromarray((np.array(picture) >> 8).astype(np.uint8))
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.array(picture.convert(mode))
