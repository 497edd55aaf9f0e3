"""Samples of more than 8 bits to 8: whole numbers of 16 or 32 bits, and floating-point ones.

A range is settled for all pictures of a kind together, so that a dark picture stays darker than a bright one.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

GREY16, COLOUR16, INTEGER, FLOAT = "16-bit", "16-bit colour", "integer", "float"
KINDS = (GREY16, COLOUR16, INTEGER, FLOAT)
GREY_ALPHA = "LA;16B"  # of a PNG, which has no other order
# As what Pillow lays out the lower halves; of the last one as the four bytes of a pixel.
LOWER = {f"{mode};16{a}": f"{mode};16{b}" for mode in ("RGB", "RGBX", "RGBA") for a, b in ("BL", "LB")}
LOWER |= {GREY_ALPHA: "RGBA"}
UNSIGNED = "I;32N"  # which Pillow takes for signed
STEPS = {"1": 255, "L;2": 85, "L;4": 17}  # what Pillow makes of a step of a PNG's grey of 1, 2 or 4 bits
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and what it may say
DIM = 128  # floats up to here or above 255 are no 8-bit values


def kind_of(picture: Image.Image) -> str:
    """Which kind of deep samples a picture has: 16-bit, 16-bit colour, integer or float; empty for 8 bits.

    Of a colour picture it is seen only before it is loaded: Pillow keeps the upper 8 bits.
    """
    if picture.mode.startswith("I;16"):
        return GREY16
    if picture.mode == "I":  # which some versions of Pillow take for 16 bits too
        return GREY16 if picture.format in ("PNG", "PPM") else INTEGER
    if picture.mode == "F":
        return FLOAT
    return COLOUR16 if _raw_mode(picture) in LOWER else ""


def is_halved(picture: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has 16-bit samples of which only the upper halves can be had."""
    return ";16" in (raw := _raw_mode(picture)) and raw not in LOWER and picture.mode in ("RGBA", "CMYK")


def settled(kind: str, low: float, high: float) -> tuple[float, float]:
    """What becomes 0 and what becomes 255, where all samples of a kind lie between `low` and `high`.

    Whole numbers: 0 and the largest of as few bits as hold them (1023 for 10 bits). Floats: 0 and 1, or 0 and 255, if
    they look like these. Others, and where some are negative: the limits themselves, or -1 and 1 around those.
    """
    if kind != FLOAT:
        return (0.0, float((1 << max(int(high).bit_length(), 1)) - 1)) if low >= 0 else (low, high)
    if low >= 0:
        return 0.0, 1.0 if high <= 1 else 255.0 if DIM <= high <= 255 else high
    return (-1.0, 1.0) if low >= -1 and high <= 1 else (low, high)


def scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Samples as uint8 of the same shape, `low` as 0 and `high` as 255; what lies beyond is cut off, NaN is 0."""
    bits = int(high + 1).bit_length() - 1
    if values.dtype.kind in "iu" and low == 0 and bits >= 8 and high == (1 << bits) - 1:
        found: npt.NDArray[np.uint8] = (np.clip(values, 0, int(high)).astype(np.int64) >> (bits - 8)).astype(np.uint8)
        return found
    shares = (np.clip(values.astype(np.float64), low, high) - low) / ((high - low) or 1.0)
    found = np.rint(255 * np.nan_to_num(shares)).astype(np.uint8)
    return found


def low_bytes(opened: Callable[[], Image.Image]) -> npt.NDArray[np.uint8] | None:
    """The lower halves of 16-bit samples, (height, width, channels); None if they cannot be had.

    Pillow keeps the first byte of each sample that is the upper one by the file's order of bytes; told the other
    order, it keeps the lower one. Grey with opacity has no other order, but as many bytes as 8-bit colour with opacity.
    """
    try:
        with opened() as picture:
            raw = _raw_mode(picture)
            lower = LOWER[raw]
            picture.tile = [  # type: ignore[attr-defined]  # of a picture from a file
                (*tile[:3], (lower, *tile[3][1:]) if isinstance(tile[3], tuple) else lower)
                for tile in picture.tile  # type: ignore[attr-defined]  # likewise
            ]
            found = np.array(picture)
    except (KeyError, OSError, ValueError, TypeError):  # of a decoder that does not know this order
        return None
    return found[..., [1, 1, 1, 3]] if raw == GREY_ALPHA else found


def is_unsigned(opened: Callable[[], Image.Image]) -> bool:
    """Whether 32-bit whole numbers of a file have no sign."""
    with opened() as picture:
        return _raw_mode(picture) == UNSIGNED


def is_negative(opened: Callable[[], Image.Image]) -> bool:
    """Whether a TIFF of deep samples says that the least is white; Pillow follows that for 8 bits alone."""
    with opened() as picture:
        tags = getattr(picture, "tag_v2", {})
        turned = _raw_mode(picture).endswith("I")  # as Pillow lays out what it turns
        return not turned and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def clear_sample(picture: Image.Image) -> int | None:
    """The sample that a PNG of 1, 2 or 4 bits names as transparent, as Pillow makes it 8 bits; None for other pictures.

    Pillow scales the samples and leaves that number as it is, that of 1 bit in older versions only. To be asked for
    before the picture is loaded.
    """
    step, clear = STEPS.get(_raw_mode(picture)), picture.info.get("transparency")
    return step * clear if step and isinstance(clear, int) and step * clear < 256 else None


def _raw_mode(picture: Image.Image) -> str:
    """How a picture from a file that is not loaded yet lays out its samples, native order as that of the machine."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    native = "L" if sys.byteorder == "little" else "B"
    return str(mode).replace(";16N", f";16{native}")
