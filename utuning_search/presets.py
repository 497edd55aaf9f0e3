"""Known methods as designs, each with its published setting."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from utuning_search.design import Design, Placement
from utuning_search.errors import InputError, nearest
from utuning_search.tuners import AdapterConfig, LoraConfig, PrefixConfig, PromptConfig, Reference
from utuning_search.tuners.references import ADAPTER, LORA, PREFIX, U_TUNING, VPT


@dataclass(frozen=True)
class Preset:
    """A published method.

    Attributes:
        name: As on the command line.
        title: As in a table.
        references: Its papers.
        build: The design for a size (rank or length); the published size if it is left out.
        size: The published size; None where the method has none.
    """

    name: str
    title: str
    references: tuple[Reference, ...]
    build: Callable[[int], Design]
    size: int | None = None

    def design(self, size: int | None = None) -> Design:
        """The method as a design; its blocks are patterns until `resolve(depth)`."""
        if size is not None and self.size is None:
            raise InputError(f"preset '{self.name}'", "this method has no size", size)
        return self.build(size if size is not None else self.size or 0)


def _dual(size: int) -> tuple[Placement, ...]:
    return (
        Placement("attention", AdapterConfig(size), "parallel", "channel"),
        Placement("mlp", AdapterConfig(size), "parallel", "channel"),
    )


PRESETS: tuple[Preset, ...] = (
    Preset("linear-probe", "Linear probe", (), lambda _: Design()),
    Preset(
        "adapter",
        "Adapter",
        (ADAPTER,),
        lambda d: Design((Placement("mlp", AdapterConfig(d), "sequential"),)),
        10,
    ),
    Preset("lora", "LoRA", (LORA,), lambda r: Design((Placement("qkv", LoraConfig(r), "parallel"),)), 8),
    Preset("vpt-deep", "VPT-deep", (VPT,), lambda n: Design((Placement("block", PromptConfig(n, "deep")),)), 10),
    Preset(
        "vpt-shallow",
        "VPT-shallow",
        (VPT,),
        lambda n: Design((Placement("block", PromptConfig(n, "shallow"), blocks="first 1"),)),
        10,
    ),
    Preset(
        "prefix",
        "Prefix tuning",
        (PREFIX,),
        lambda n: Design((Placement("attention", PrefixConfig(n, "exact")),)),
        10,
    ),
    Preset("u-tuning-dual", "U-Tuning dual", (U_TUNING,), lambda d: Design(_dual(d)), 10),
    Preset(
        "u-tuning-tri",
        "U-Tuning tri",
        (U_TUNING,),
        lambda d: Design((*_dual(d), Placement("block", PrefixConfig(d, "parallel"), "parallel"))),
        10,
    ),
    Preset(
        "u-tuning-1",
        "U-Tuning/1",
        (U_TUNING,),
        lambda d: Design(tuple(replace(p, scale="none", blocks="first 1") for p in _dual(d))),
        10,
    ),
)
_BY_NAME = {p.name: p for p in PRESETS}
if len(_BY_NAME) < len(PRESETS):
    raise RuntimeError("two presets of one name are registered")


def preset(name: str) -> Preset:
    """The preset of a name; an error with the nearest known name otherwise."""
    if name not in _BY_NAME:
        raise InputError("preset", "the name is a known one", f"'{name}'", nearest(name, _BY_NAME))
    return _BY_NAME[name]
