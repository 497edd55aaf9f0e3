"""Pictures to uint8 tensors of a backbone's size, in training, test and use; a door to torchvision."""

import stat
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.data.decoding import UNREADABLE, Decoder, Opener

# Suffixes of files whose pictures may be deep or transparent; those of .jpg are neither.
OPEN = (".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".pgm", ".ppm")
LONGEST = 32  # times the shorter side: what is longer is cut first, as its resized whole might not fit into memory


class UnreadableError(Exception):
    """A picture that cannot be read; the message says why, in one line."""


def to_tensor(
    opened: Callable[[], Image.Image], preprocessing: Preprocessing, decoder: Decoder | None = None, name: str = ""
) -> Tensor:
    """One image as uint8 (channels, size, size): upright, shorter side resized, centre cropped.

    Args:
        opened: Opens the picture, which is closed here; may fail as Pillow does.
        preprocessing: Size, channels and interpolation.
        decoder: Of the data set that it is of; None for a picture by itself.
        name: Of the picture, for the decoder's notes.

    Raises:
        UnreadableError: It cannot be opened or decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large ones are meant; bombs still raise
            warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged metadata, of which nothing is needed
            pixels = (decoder or Decoder()).decode(opened, "L" if preprocessing.channels == 1 else "RGB", name)
    except UnidentifiedImageError:  # its message names the file, as the caller will
        raise UnreadableError("no image of a known format") from None
    except Image.DecompressionBombError as error:
        most = f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:,.0f} megapixels (a decompression bomb?)"
        raise UnreadableError(f"{most}: save it smaller, no more than the backbone's size is used") from error
    except UNREADABLE as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(" ".join(said.split())) from None
    image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    return fitted(image, preprocessing)


def fitted(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """A decoded image, uint8 (channels, height, width), as (channels, size, size): resized, then centre cropped."""
    size, longest = preprocessing.image_size, LONGEST * min(image.shape[1:])
    if max(image.shape[1:]) > longest:
        image = v2.functional.center_crop(image, [min(n, longest) for n in image.shape[1:]])
    interpolation = InterpolationMode(preprocessing.interpolation)
    image = v2.functional.resize(image, [preprocessing.resized], interpolation, antialias=True)
    cropped: Tensor = v2.functional.center_crop(image, [size, size])
    return cropped


def read_file(path: Path | str, preprocessing: Preprocessing, decoder: Decoder | None = None, name: str = "") -> Tensor:
    """An image file as `to_tensor` gives it; the first picture of an animation."""
    return to_tensor(lambda: open_file(Path(path)), preprocessing, decoder, name or str(path))


def open_file(path: Path) -> Image.Image:
    """Open a picture; an OSError for what is no regular file."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise OSError("no regular file")
    return Image.open(path)


def openers(paths: Iterable[Path]) -> list[Opener]:
    """What opens each of the files whose pictures may leave open how they are read, see `Decoder`."""
    return [partial(open_file, path) for path in paths if path.suffix.lower() in OPEN]
