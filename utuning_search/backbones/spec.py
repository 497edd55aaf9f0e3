"""Which backbone a task names."""

from dataclasses import dataclass

from utuning_search.common.errors import InputError


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone.

    Attributes:
        name: `glyph_vit`, or a timm model.
        checkpoint: Local file with its weights, relative to the data directory; empty for the hub's.
        image_size: Pixels; 0 takes the model's own.
    """

    name: str
    checkpoint: str = ""
    image_size: int = 0

    def __post_init__(self) -> None:
        if self.image_size < 0:
            raise InputError("image_size", "image_size is in pixels, or 0 for the model's own", self.image_size)
