"""Printed letters as 8x8 images: the source task of the embedded backbone.

The letters come from the fonts that matplotlib ships, so they need no download. Each one is drawn
as a 32x32 bitmap and reduced to 8x8 by counting the ink in 4x4 blocks: the procedure by which
scikit-learn's `load_digits` images were made. Digits are never drawn: they are the target task.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The classes, in the order of their labels 0..51."""

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
    "STIXGeneralItalic",
)
"""The text fonts that matplotlib ships; its symbol, display and TeX fonts are left out."""

STROKES = (0, 1, 2, 3)
"""Extra pen widths, in pixels of a mask (an em is 64): handwriting varies more than fonts do."""

EM = 64  # pixels of an em in a mask
CANVAS = 128  # side of a mask: the widest letter, with its stroke, leaves a margin
BITMAP = 32  # side of the bitmap; an em of a letter of scale 1 fills it
CELL = 4  # bitmap pixels along a side of one output pixel
BASELINE = CANVAS / 2 + 0.28 * EM  # centres ascenders and descenders together, not each letter


@dataclass(frozen=True)
class Pose:
    """How a letter lies in its bitmap; the defaults leave it upright and centred.

    `rotation` is in radians, counter-clockwise; `shear` in pixels to the right for a pixel upwards;
    `width` and `height` are factors; `right` and `down` are in bitmap pixels.
    """

    rotation: float = 0.0
    shear: float = 0.0
    width: float = 1.0
    height: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def pixels(self) -> tuple[float, float, float, float, float, float]:
        """PIL's affine coefficients: from a bitmap pixel (x, y) to the mask pixel it shows."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        turn = np.array([[cos, sin], [-sin, cos]])  # y points down
        slant = np.array([[1.0, -self.shear], [0.0, 1.0]])
        forward = turn @ slant @ np.diag([self.width, self.height]) * (BITMAP / EM)
        back = np.linalg.inv(forward)
        centre = BITMAP / 2 + np.array([self.right, self.down])
        start = CANVAS / 2 - back @ centre
        return (
            float(back[0, 0]), float(back[0, 1]), float(start[0]),
            float(back[1, 0]), float(back[1, 1]), float(start[1]),
        )  # fmt: skip


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose within the bounds of the source task.

    The largest size is 1.35 times the smallest, about the ratio of a capital to its small letter,
    so that `c` and `C` can mostly be told apart; the offset is enough to crop some letters.
    """
    scale = rng.uniform(0.85, 1.15)
    return Pose(
        rotation=rng.uniform(-0.3, 0.3),
        shear=rng.uniform(-0.35, 0.35),
        width=scale * rng.uniform(0.8, 1.2),
        height=scale,
        right=rng.uniform(-3.5, 3.5),
        down=rng.uniform(-2.5, 2.5),
    )


def mask(letter: str, font: ImageFont.FreeTypeFont, stroke: int) -> Image.Image:
    """One letter, white on black, 8 bits, CANVAS x CANVAS, its baseline at a fixed height."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text((CANVAS / 2, BASELINE), letter, fill=255, font=font, anchor="ms", stroke_width=stroke)
    return canvas


def masks() -> list[list[list[Image.Image]]]:
    """Every letter in every font with every pen, indexed [font][stroke][label]."""
    import matplotlib  # for its font files alone, which most who import this module need not wait for

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # The basic layout: the other one is an optional part of PIL, and a letter needs no layout.
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", EM, layout_engine=ImageFont.Layout.BASIC) for name in FONTS]
    return [[[mask(c, font, stroke) for c in LETTERS] for stroke in STROKES] for font in fonts]


def counts(glyph: Image.Image, pose: Pose) -> NDArray[np.int64]:
    """The ink of a posed mask, (8, 8), 0..16: how many pixels of each 4x4 block are set."""
    size = (BITMAP, BITMAP)
    drawn = glyph.transform(size, Image.Transform.AFFINE, pose.pixels(), resample=Image.Resampling.BILINEAR)
    side = BITMAP // CELL
    bits = np.asarray(drawn) >= 128
    total: NDArray[np.int64] = bits.reshape(side, CELL, side, CELL).sum(axis=(1, 3), dtype=np.int64)
    return total


def as_bytes(ink: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.uint8]:
    """Ink of 0..16 as bytes of 0..255, any shape: the one scale of letters and digits."""
    scaled: NDArray[np.uint8] = np.rint(ink * (255 / CELL**2)).astype(np.uint8)
    return scaled


def letters(number: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random printed letters, white on black: images (number, 8, 8) of 0..255, labels (number,).

    The classes, fonts and pens are uniform; the same seed gives the same letters.
    """
    if number < 1:
        raise ValueError(f"letters: number must be at least 1, got {number}")
    rng = np.random.default_rng(seed)
    drawn = masks()
    labels = rng.integers(len(LETTERS), size=number, dtype=np.int64)
    fonts = rng.integers(len(FONTS), size=number)
    strokes = rng.integers(len(STROKES), size=number)
    ink = np.stack(
        [
            counts(drawn[font][stroke][label], random_pose(rng))
            for font, stroke, label in zip(fonts, strokes, labels, strict=True)
        ]
    )
    return as_bytes(ink), labels
