"""Pictures as users have them, files, Pillow's, arrays or tensors, as a data set would have read them."""

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import InputError
from utuning_search.data.decoding import Decoder, Decoding, Opener
from utuning_search.data.pixels import UnreadableError, fitted, open_file, to_tensor

Picture = Path | str | Image.Image | npt.NDArray[Any] | Tensor
Pictures = Picture | Iterable[Picture]
SAMPLES = (1, 3, 4)  # of a pixel in an array: grey, colour, colour and opacity
WHERE = "images"
EMPTY = "no pixels"


def each_of(pictures: Pictures) -> Iterator[Picture]:
    """Pictures one by one; a tensor or an array of four dimensions holds several."""
    if isinstance(pictures, Path | str | Image.Image):
        yield pictures
    elif isinstance(pictures, Tensor | np.ndarray):
        yield from pictures if pictures.ndim == 4 else (pictures,)
    else:
        yield from pictures


def read_picture(picture: Picture, preprocessing: Preprocessing, decoder: Decoder, name: str = "") -> Tensor:
    """One picture as a data set that is read in this way has it: uint8 (channels, size, size).

    Args:
        picture: A file; a picture of Pillow's, which stays as it is; an array as Pillow makes pictures of it, uint8
            (height, width) or (height, width, 1, 3 or 4), or (height, width) of deeper samples; or a tensor, uint8
            (channels, height, width), of as many channels as the backbone has; one of its size is taken as it is.
        preprocessing: Size, channels and interpolation.
        decoder: Of the data set.
        name: For the decoder's notes; of a file its own.

    Raises:
        UnreadableError: It cannot be opened or decoded.
        InputError: It is none of these.
    """
    if isinstance(picture, Tensor):
        if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != preprocessing.channels:
            raise wrong_tensor(picture, preprocessing)
        if not picture.numel():
            raise UnreadableError(EMPTY)
        return picture if picture.shape[1:] == (preprocessing.image_size,) * 2 else fitted(picture, preprocessing)
    name = str(picture) if isinstance(picture, Path | str) else name
    return to_tensor(opener_of(picture), preprocessing, decoder, name)


def opener_of(picture: Picture) -> Opener:
    """What opens a file, a picture of Pillow's, which stays as it is, or an array; see `read_picture`.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(picture, Path | str):
        return partial(open_file, Path(picture))
    if isinstance(picture, Image.Image):
        return _again(picture)
    if isinstance(picture, np.ndarray):
        made = _of_array(picture)
        return lambda: made
    rule = "each is a file, a picture of Pillow's, an array or a tensor"
    raise InputError(WHERE, rule, type(picture).__name__)


def read_pictures(pictures: Pictures, preprocessing: Preprocessing, decoding: Decoding) -> Tensor:
    """Pictures as a data set that is read in this way has them.

    Returns:
        uint8 (images, channels, size, size).

    Raises:
        InputError: One cannot be read.
    """
    decoder, found = Decoder(decoding), []
    for i, picture in enumerate(each_of(pictures)):
        try:
            found.append(read_picture(picture, preprocessing, decoder))
        except UnreadableError as error:
            raise unreadable(picture, i, error) from None
    return stacked(found, preprocessing)


def stacked(images: list[Tensor], preprocessing: Preprocessing) -> Tensor:
    """uint8 (images, channels, size, size); of none too."""
    size = preprocessing.image_size
    return torch.stack(images) if images else torch.empty(0, preprocessing.channels, size, size, dtype=torch.uint8)


def unreadable(picture: Picture, number: int, error: UnreadableError) -> InputError:
    """The refusal of a picture: by its name, or by its number among those that were given."""
    name = f"image {picture}" if isinstance(picture, Path | str) else f"picture {number}"
    return InputError(name, "it can be read", str(error))


def wrong_tensor(images: Tensor, preprocessing: Preprocessing) -> InputError:
    """The refusal of a tensor that is no picture."""
    channels = preprocessing.channels
    rule = f"tensors are uint8 of (batch, {channels}, height, width) or ({channels}, height, width)"
    todo = "What is normalised already goes into the model itself: model(images)."
    return InputError(WHERE, rule, f"{images.dtype} of {tuple(images.shape)}", todo)


def _of_array(array: npt.NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    rule = f"arrays are uint8 of (height, width) or (height, width, {', '.join(map(str, SAMPLES))}), or of deep grey"
    todo = "Give several as a list; make floats of 0 to 1 whole numbers with (255 * array).round().astype('uint8')."
    got = f"{array.dtype} of {array.shape}"
    if array.ndim == 3 and array.shape[2] not in SAMPLES:
        raise InputError(WHERE, rule, got, todo)
    if not array.size:
        raise UnreadableError(EMPTY)
    try:
        return Image.fromarray(np.ascontiguousarray(array))
    except (TypeError, ValueError):
        raise InputError(WHERE, rule, got, todo) from None


def _again(picture: Image.Image) -> Opener:
    """What opens a picture of somebody else's, who may want to use it afterwards."""
    name = getattr(picture, "filename", "")
    stream: Any = getattr(picture, "fp", None)
    if getattr(picture, "tile", None):  # not loaded yet: nothing is lost so far
        if name and Path(name).is_file():
            return partial(open_file, Path(name))
        with suppress(OSError, ValueError, AttributeError):  # of a stream that only goes forward
            before = stream.tell()
            stream.seek(0)
            content = stream.read()
            stream.seek(before)
            return lambda: Image.open(io.BytesIO(content))
    return picture.copy
