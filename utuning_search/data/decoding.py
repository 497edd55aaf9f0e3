"""Pictures to pixels: which way up, on which ground, and how bright. All of one data set in the same way.

What a picture says of itself is followed (orientation, transparency); what it leaves open, such as how bright the
largest number of a 10-bit sensor is, is read off the training pictures once, and never off the picture alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from utuning_search.common.errors import InputError, refuse_unknown_keys
from utuning_search.common.wording import listed
from utuning_search.data.samples import (
    COLOUR16,
    INTEGER,
    KINDS,
    clear_sample,
    is_halved,
    is_negative,
    is_unsigned,
    kind_of,
    low_bytes,
    scaled,
    settled,
)

TRANSPARENT, TURNED, SEVERAL, HALVED = "transparent", "turned", "several", "halved"
GROUNDS = {255: "white", 0: "black", 128: "grey"}  # the first that serves is taken
VANISHES = 32  # levels: what differs less from its ground, on average, cannot be seen on it
EXAMPLES = 500  # pictures of a kind that are looked at, evenly spaced over all
NAMED = 3
ORIENTATION = 0x0112
# What undoes each. Pillow's own `exif_transpose` writes the EXIF anew, which fails where another tag is damaged.
_UNDONE = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]
UPRIGHT = {tag: Image.Transpose[name] for tag, name in enumerate(_UNDONE, 2)}
EXIF = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where Pillow keeps what may hold it

Pixels = npt.NDArray[np.uint8]
Opener = Callable[[], Image.Image]


@dataclass(frozen=True)
class Decoding:
    """How the pictures of a data set are read where they leave it open; part of a study and of an exported tuner.

    Attributes:
        background: Grey level, 0 to 255, of what is put under transparent pictures; None if there were none.
        ranges: What becomes 0 and 255, by kind of samples; see `samples.kind_of`.
    """

    background: int | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A table for TOML or JSON; empty where nothing was open."""
        ground = {} if self.background is None else {"background": self.background}
        ranges = {kind: list(limits) for kind, limits in sorted(self.ranges.items())}
        return ground | ({"ranges": ranges} if ranges else {})

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Decoding":
        """What `to_dict` gave.

        Raises:
            InputError: It is something else.
        """
        rule = "it says how pictures are read"
        try:
            refuse_unknown_keys(table, ("background", "ranges"), "decoding")
            ranges = {str(kind): (float(low), float(high)) for kind, (low, high) in table.get("ranges", {}).items()}
            ground = table.get("background")
            refuse_unknown_keys(ranges, KINDS, "decoding, ranges")
        except InputError:
            raise
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError("decoding", rule, f"{type(error).__name__}: {error}") from None
        if ground is not None and (type(ground) is not int or not 0 <= ground <= 255):
            raise InputError("decoding", "background is a grey level, 0 to 255", repr(ground))
        odd = [kind for kind, limits in ranges.items() if not -math.inf < limits[0] <= limits[1] < math.inf]
        if odd:
            rule = "a range is of two finite numbers, the smaller one first"
            raise InputError("decoding", rule, f"{odd[0]}: {ranges[odd[0]]}")
        return cls(ground, ranges)


class Decoder:
    """Decodes the pictures of one data set, and keeps account of what was done.

    Attributes:
        met: Names of the pictures of each kind that were decoded.
    """

    def __init__(self, settings: Decoding = Decoding(), examples: Callable[[], Iterable[Opener]] = tuple) -> None:
        """`examples` open the pictures that settle what `settings` leave open; asked only if some picture does."""
        self.met: dict[str, dict[str, None]] = {}
        self._background, self._ranges = settings.background, dict(settings.ranges)
        self._examples = examples

    @property
    def settings(self) -> Decoding:
        """What was settled so far."""
        return Decoding(self._background, dict(self._ranges))

    def decode(self, opened: Opener, mode: str, name: str = "") -> Pixels:
        """Pixels (height, width) in mode "L" or (height, width, 3) in "RGB", upright; the first of several pictures.

        Args:
            opened: Opens the picture; it is closed here.
            mode: "L" or "RGB".
            name: Of the picture, for the notes.

        Raises:
            OSError, ValueError, SyntaxError, DecompressionBombError: As Pillow does.
        """
        with opened() as picture:
            kind = kind_of(picture)  # before loading, which forgets it
            halved = is_halved(picture)
            said = orientation(picture) if picture.format == "TIFF" else 1  # which loading turns, and drops the tag
            _load(picture, kind)
            left = orientation(picture)  # now, as a PNG's may lie behind its pixels
            several = _has_several(picture)
            for what, met in ((TURNED, max(said, left) > 1), (SEVERAL, several), (HALVED, halved), (kind, bool(kind))):
                if met:
                    self._note(what, name)
            if kind:
                picture = self._flattened(picture, kind, opened)
            if left > 1:
                picture = picture.transpose(UPRIGHT[left])
            if not picture.has_transparency_data:
                return np.array(picture.convert(mode))
            pixels, alpha = _apart(picture, mode)
            if alpha.min() == 255:
                return pixels
            self._note(TRANSPARENT, name)
            return _on(pixels, alpha, self._ground())

    def notes(self, known: Decoding | None = None) -> Iterator[str]:
        """One line for each thing that was done to some pictures.

        Args:
            known: How those were read that were trained on: then only what these were not is said. None says all.
        """
        if TURNED in self.met and known is None:
            yield f"{self._counted(TURNED)} turned upright, as the EXIF orientation in the file says."
        if TRANSPARENT in self.met and (known is None or known.background is None):
            ground = GROUNDS.get(self._ground(), str(self._ground()))
            yield f"{self._counted(TRANSPARENT)} put on {ground}, being transparent in part."
        for kind in sorted(set(self.met) - {TURNED, TRANSPARENT, SEVERAL, HALVED, *(known.ranges if known else ())}):
            words = f"{self._counted(kind)} of {kind} samples: "
            if kind in self._ranges:
                low, high = self._ranges[kind]
                yield words + f"{low:g} to {high:g} become 0 to 255, as all training images of the kind lie in it."
            else:
                yield words + "each was scaled by itself, as no training image is of the kind."
        if HALVED in self.met:
            yield f"{self._counted(HALVED)} of 16-bit samples that are read as 8 bits, the upper halves."
        if SEVERAL in self.met:
            yield f"{self._counted(SEVERAL)} animated or of several pages, of which only the first picture is taken."

    def _note(self, what: str, name: str) -> None:
        self.met.setdefault(what, {})[name] = None

    def _counted(self, what: str) -> str:
        names = list(self.met[what])
        return f"{len(names):,} {'image is' if len(names) == 1 else 'images are'} ({listed(names, NAMED)})"

    def _flattened(self, picture: Image.Image, kind: str, opened: Opener) -> Image.Image:
        """A deep picture as one of 8 bits."""
        values, alpha = _values(picture, kind, opened)
        grey = scaled(values, *self._range(kind, values))
        flat = Image.fromarray(255 - grey if is_negative(opened) else grey)
        if alpha is not None:
            flat.putalpha(Image.fromarray(alpha))
        return flat

    def _range(self, kind: str, values: npt.NDArray[Any]) -> tuple[float, float]:
        if kind not in self._ranges:
            found = [_limits(_values(p, kind, again)[0]) for p, again, _ in self._of_kind(kind)]
            if not found:
                return settled(kind, *_limits(values))
            lows, highs = zip(*found, strict=True)
            self._ranges[kind] = settled(kind, min(lows), max(highs))
        return self._ranges[kind]

    def _ground(self) -> int:
        """The first ground on which the fewest training pictures vanish; white where there are none."""
        if self._background is None:
            vanishing = dict.fromkeys(GROUNDS, 0)
            for picture, again, deep in self._of_kind(TRANSPARENT):
                pixels, alpha = _apart(self._flattened(picture, deep, again) if deep else picture, "L")
                if alpha.any() and alpha.min() < 255:
                    for ground in GROUNDS:
                        vanishing[ground] += np.average(np.abs(pixels - float(ground)), weights=alpha) < VANISHES
            self._background = min(GROUNDS, key=lambda ground: vanishing[ground])
        return self._background

    def _of_kind(self, kind: str) -> Iterator[tuple[Image.Image, Opener, str]]:
        """Training pictures of a kind, loaded, each with what opens it again, and which samples it has.

        Unreadable ones are left out.
        """
        found = []
        for opened in self._examples():
            with suppress(*UNREADABLE), opened() as picture:
                wanted = picture.has_transparency_data if kind == TRANSPARENT else kind_of(picture) == kind
                found += [opened] if wanted else []
        step = max(len(found) / EXAMPLES, 1.0)
        for i in range(min(len(found), EXAMPLES)):
            opened = found[int(i * step)]
            with suppress(*UNREADABLE), opened() as picture:
                deep = kind_of(picture)
                _load(picture, deep)
                yield picture, opened, deep


UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # SyntaxError: broken PNG chunks


def _load(picture: Image.Image, kind: str) -> None:
    """Decode it; an OSError for what Pillow's parsers of damaged metadata raise, which may be anything.

    A header of some hundred bytes can claim any size. Pillow warns of a bomb at half of the pixels at which it refuses
    one; deep samples take many times the memory of 8 bits on their way, so they are refused at a warning already.
    """
    most = Image.MAX_IMAGE_PIXELS
    if kind and most is not None and picture.width * picture.height > most:
        raise ValueError(f"more than {most / 1e6:,.0f} megapixels of {kind} samples: save it smaller, or with 8 bits")
    clear = clear_sample(picture)
    try:
        picture.load()
    except (MemoryError, *UNREADABLE):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from None
    if clear is not None:
        picture.info["transparency"] = clear


def orientation(picture: Image.Image) -> int:
    """What its EXIF says, 1 to 8; 1 where that cannot be read, which is no reason to lose a picture."""
    if picture.format != "TIFF" and not EXIF & picture.info.keys():
        return 1
    with suppress(Exception):  # Pillow's parsers of damaged EXIF raise anything
        found = picture.getexif().get(ORIENTATION, 1)
        return int(found) if found in range(1, 9) else 1
    return 1


def _has_several(picture: Image.Image) -> bool:
    """Whether a file holds several pictures; what phones put behind a photo (MPO) is no animation."""
    with suppress(Exception):  # a damaged second picture does not harm the first
        return picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
    return False


def _apart(picture: Image.Image, mode: str) -> tuple[Pixels, Pixels]:
    """Pixels in a mode, and their opacity (height, width)."""
    full = picture.convert("LA").convert("RGBA") if picture.mode == "La" else picture.convert("RGBA")
    return np.array(full.convert("RGB").convert(mode)), np.array(full.getchannel("A"))


def _on(pixels: Pixels, alpha: Pixels, ground: int) -> Pixels:
    share = alpha.astype(np.float32) / 255
    share = share[..., None] if pixels.ndim == 3 else share
    mixed: Pixels = np.rint(pixels * share + ground * (1 - share)).astype(np.uint8)
    return mixed


def _values(picture: Image.Image, kind: str, opened: Opener) -> tuple[npt.NDArray[Any], Pixels | None]:
    """The samples of a deep picture as they are in the file, and its opacity if it has any."""
    values = np.array(picture)
    if kind == COLOUR16:
        low = low_bytes(opened)
        values = values.astype(np.uint16) << 8 if low is None else (values.astype(np.uint16) << 8) | low
        if values.shape[-1] == 4:
            return values[..., :3], np.array(picture.getchannel("A"))
    elif kind == INTEGER and is_unsigned(opened):
        values = values.view(np.uint32)
    clear = picture.info.get("transparency")  # the samples of what is transparent
    if not isinstance(clear, int if values.ndim == 2 else tuple):
        return values, None
    hidden = values == clear if values.ndim == 2 else (values == np.array(clear)).all(axis=2)
    return values, np.where(hidden, 0, 255).astype(np.uint8)


def _limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The least and the largest finite number; 0 and 0 where there are none."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
