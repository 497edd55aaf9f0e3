"""Which backbone a task names."""

from dataclasses import asdict, dataclass
from typing import Any

from utuning_search.common.errors import InputError

WHOLE = 1.0


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone.

    Attributes:
        name: `glyph_vit`, or a timm model.
        checkpoint: Local file with its weights, relative to the data directory; empty for the hub's.
        image_size: Pixels; 0 takes the model's own.
        crop: Share of an image's shorter side that a centre crop keeps, in (0, 1]; 0 takes the model's own `crop_pct`.
            By default all of it, whatever timm's configuration says: a crop of 0.9 throws away a fifth of every picture
            of a user's, and what was trained on whole pictures is asked about whole pictures.
    """

    name: str
    checkpoint: str = ""
    image_size: int = 0
    crop: float = WHOLE

    def __post_init__(self) -> None:
        if self.image_size < 0:
            raise InputError("image_size", "image_size is in pixels, or 0 for the model's own", self.image_size)
        if not 0 <= self.crop <= 1:
            rule = "crop is the share that is kept, above 0 and at most 1, or 0 for the model's own"
            raise InputError("crop", rule, self.crop)

    def to_dict(self) -> dict[str, Any]:
        """The TOML table; without what came later where it says nothing, as in older studies."""
        table = asdict(self)
        if self.crop == WHOLE:
            del table["crop"]
        return table
