"""What a backbone is and what can be tuned in it, without its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields

from torch import nn

from utuning_search.backbones.family import BackboneAdapter
from utuning_search.backbones.loading import preprocessing_of, without_weights
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import FAMILIES, adapter_of
from utuning_search.designs.legality import hindrance, obstacle
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import OPERATIONS, TUNERS, AdapterConfig, BackboneShape, Operation, TunerConfig

ALL = "full"  # the space with every reading of every tuner of ours


@dataclass(frozen=True)
class Family:
    """One family of backbones.

    Attributes:
        named: What its models are called, with an article.
        operations: Those that its blocks have.
        lacks: The others, and why.
        tuners: Operations at which each kind of tuner can be placed.
        left_out: Kinds of tuners, or readings and forms of them, that can be placed nowhere, and why.
    """

    named: str
    operations: tuple[Operation, ...]
    lacks: Mapping[Operation, str]
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
    return tuple(_family(family, _of_family(family)) for family in FAMILIES.values())


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
        family=_family(type(adapter), adapter.shape),
        class_name=type(model).__name__,
        architecture=known.get("architecture") or "",
        shape=adapter.shape,
        prefix_tokens=adapter.num_prefix_tokens,
        preprocessing=preprocessing_of(model, name, crop=0),
    )


def _of_family(family: type[BackboneAdapter]) -> BackboneShape:
    """What of a shape all models of a family have in common, with numbers that say nothing."""
    lacks = tuple(o for o in OPERATIONS if o not in family.operations)
    return BackboneShape(1, 1, 1, 1, 1, 1, 1, lacks=lacks, attends=family.attends, joins=family.joins)


def _family(family: type[BackboneAdapter], shape: BackboneShape) -> Family:
    tuners: dict[str, tuple[Operation, ...]] = {}
    left_out: dict[str, str] = {}
    for kind in TUNERS:
        readings = _readings(kind)
        there = [o for o in OPERATIONS if any(_stands(c, o, shape) for c in readings)]
        if there:
            tuners[kind] = tuple(there)
        for label in dict.fromkeys(c.label for c in readings):
            alike = [c for c in readings if c.label == label]
            if not any(_stands(c, o, shape) for c in alike for o in OPERATIONS):
                left_out[label if there else kind] = _why(alike, shape)
    bypass = hindrance(AdapterConfig(1), "bypass", shape)
    if bypass:
        left_out["bypass"] = bypass
    lacks = {o: family.lacks_because for o in OPERATIONS if o not in family.operations}
    return Family(family.named, family.operations, lacks, tuners, left_out)


def _stands(config: TunerConfig, operation: Operation, shape: BackboneShape) -> bool:
    return operation in config.operations and not obstacle(config, operation, None, shape)


def _why(alike: Sequence[TunerConfig], shape: BackboneShape) -> str:
    """Why a tuner can stand nowhere."""
    found = hindrance(alike[0], None, shape)
    places = sorted({o for c in alike for o in c.operations}, key=OPERATIONS.index)
    return found or f"it is placed at {', '.join(places)}, which its blocks lack"


def _readings(kind: str) -> tuple[TunerConfig, ...]:
    """A kind of tuner in all its readings: as it is by default, and in the space that has them all."""
    cls = TUNERS[kind]
    sizes = {field.name: 1 for field in fields(cls) if field.default is MISSING}  # all that have no default are counts
    return (cls(**sizes), *(offer.config for slot in Space.load(ALL).slots for offer in slot.offers_of(kind)))
