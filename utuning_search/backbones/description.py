"""What a backbone is and what can be tuned in it, without its weights."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from torch import nn

from utuning_search.backbones.loading import preprocessing_of, without_weights
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import FAMILIES, adapter_of
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import OPERATIONS, TUNERS, BackboneShape, Operation

ALL = "full"  # the space with every reading of every tuner of ours


@dataclass(frozen=True)
class Family:
    """One family of backbones.

    Attributes:
        named: What its models are called, with an article.
        operations: Those that its blocks have.
        tuners: Operations at which each kind of tuner can be placed.
        left_out: Kinds of tuners that can be placed nowhere, and why.
    """

    named: str
    operations: tuple[Operation, ...]
    tuners: Mapping[str, tuple[Operation, ...]]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Description:
    """One backbone.

    Attributes:
        name: That it was asked for by.
        family: Of it.
        class_name: Of its module.
        architecture: timm's name for it; empty where it has none.
        shape: The numbers that sizes depend on.
        prefix_tokens: Before those of patches.
        preprocessing: Of its images, with its own crop.
    """

    name: str
    family: Family
    class_name: str
    architecture: str
    shape: BackboneShape
    prefix_tokens: int
    preprocessing: Preprocessing

    @property
    def tokens(self) -> int:
        """Of one image."""
        height, width = self.shape.grid
        return self.prefix_tokens + height * width


def families() -> tuple[Family, ...]:
    """All, in the order in which they are asked."""
    return tuple(_family(named, family.operations) for named, family in FAMILIES.items())


def describe(name: str, image_size: int | None = None) -> Description:
    """A backbone by its name; of a repository or folder its config.json is read, and weights of none.

    Args:
        name: As of `load_backbone`.
        image_size: Pixels; None takes the model's own.

    Raises:
        InputError, BackboneError: As `load_backbone`, but for weights.
    """
    model: nn.Module = without_weights(name, image_size)
    adapter = adapter_of(model, name)
    known = getattr(model, "pretrained_cfg", {})
    return Description(
        name=name,
        family=_family(adapter.named, adapter.operations),
        class_name=type(model).__name__,
        architecture=known.get("architecture") or "",
        shape=adapter.shape,
        prefix_tokens=adapter.num_prefix_tokens,
        preprocessing=preprocessing_of(model, name, crop=0),
    )


def _family(named: str, operations: tuple[Operation, ...]) -> Family:
    tuners: dict[str, tuple[Operation, ...]] = {}
    left_out: dict[str, str] = {}
    for kind in TUNERS:
        legal = _legal(kind)
        there = tuple(o for o in operations if o in legal)
        if there:
            tuners[kind] = there
        else:
            left_out[kind] = f"it is placed at {', '.join(sorted(legal, key=OPERATIONS.index))}, which its blocks lack"
    return Family(named, operations, tuners, left_out)


def _legal(kind: str) -> set[Operation]:
    """Operations of a kind of tuner, of its readings too: as it is by default, and in the space that has them all."""
    cls = TUNERS[kind]
    sizes = {field.name: 1 for field in fields(cls) if field.default is MISSING}  # all that have no default are counts
    readings = [offer.config for slot in Space.load(ALL).slots for offer in slot.offers_of(kind)]
    return {operation for config in (cls(**sizes), *readings) for operation in config.operations}
