"""Which backbone a task names."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from utuning_search.backbones.names import FOLDER, HUB, is_commit, parse_name
from utuning_search.common.errors import InputError

WHOLE = 1.0


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone.

    Attributes:
        name: `glyph_vit`, a timm model, `hf-hub:USER/MODEL`, `hf-hub:USER/MODEL@REVISION`, `local-dir:PATH` or the path
            of a folder; paths may be relative to the data directory.
        checkpoint: Local file with its weights, relative to the data directory; empty for the hub's.
        image_size: Pixels; 0 takes the model's own.
        crop: Share of an image's shorter side that a centre crop keeps, in (0, 1]; 0 takes the model's own `crop_pct`.
            By default all of it, whatever timm's configuration says: a crop of 0.9 throws away a fifth of every picture
            of a user's, and what was trained on whole pictures is asked about whole pictures.
        revision: Commit of the repository that a study read, which it keeps; empty until then, and for others.
    """

    name: str
    checkpoint: str = ""
    image_size: int = 0
    crop: float = WHOLE
    revision: str = ""

    def __post_init__(self) -> None:
        if self.image_size < 0:
            raise InputError("image_size", "image_size is in pixels, or 0 for the model's own", self.image_size)
        if not 0 <= self.crop <= 1:
            rule = "crop is the share that is kept, above 0 and at most 1, or 0 for the model's own"
            raise InputError("crop", rule, self.crop)
        if parse_name(self.name).source != HUB and self.revision:
            rule = f"a revision is one of a repository, with a name such as {HUB}:USER/MODEL"
            raise InputError("revision", rule, f"'{self.revision}' of '{self.name}'", "Leave revision out.")

    @property
    def pinned(self) -> bool:
        """Whether it names the same weights for ever, as far as names can: it has the commit of its repository."""
        return is_commit(self.revision)

    @property
    def is_folder(self) -> bool:
        """Whether its name is the path of a folder."""
        return parse_name(self.name).source == FOLDER

    @property
    def is_local(self) -> bool:
        """Whether its weights are in a file or folder of this machine."""
        return bool(self.checkpoint) or self.is_folder

    @property
    def exact(self) -> str:
        """The name that is loaded: of a repository, with the commit that was read."""
        return str(replace(parse_name(self.name), revision=self.revision)) if self.revision else self.name

    @property
    def title(self) -> str:
        """What it is called where paths of one machine say nothing: of a folder, the last part of its path."""
        return Path(parse_name(self.name).place).name if self.is_folder else self.name

    def to_dict(self) -> dict[str, Any]:
        """The TOML table; without what came later where it says nothing, as in older studies."""
        table = asdict(self)
        if self.crop == WHOLE:
            del table["crop"]
        if not self.revision:
            del table["revision"]
        return table
