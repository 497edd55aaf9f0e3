"""Known methods as placements, each at its published setting: one function a method, and the one list of them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utuning_search.common.errors import InputError, nearest
from utuning_search.designs.placement import Placement
from utuning_search.tuners import (
    OUTSIDE_OPERATIONS,
    AdapterConfig,
    ArcConfig,
    BiasConfig,
    CompacterConfig,
    ConvConfig,
    DoraConfig,
    ExpertsConfig,
    FactConfig,
    GraphConfig,
    GroupedConfig,
    KroneckerConfig,
    LoraConfig,
    NormConfig,
    OftConfig,
    Operation,
    PrefixConfig,
    PromptConfig,
    Reference,
    RepAdapterConfig,
    RescaleConfig,
    SasConfig,
    Scale,
    ScaleShiftConfig,
    TunerConfig,
    VeraConfig,
)
from utuning_search.tuners import references as papers

Placements = tuple[Placement, ...]
PLAIN, SWIN = "plain transformers", "Swin, but for the steps between its stages"
LINEAR: tuple[Operation, ...] = ("qkv", "proj", "fc1", "fc2")
NORMS: tuple[Operation, ...] = ("norm1", "norm2")
PARTS: tuple[Operation, ...] = ("q", "k", "v", "proj", "fc1", "fc2")


@dataclass(frozen=True)
class Preset:
    """A published method.

    Attributes:
        name: As on the command line.
        title: As in a table.
        references: Its papers, the one that names it first.
        build: The placements for its options, which are the function's keyword arguments; their defaults are the
            published values.
        note: What of the published method differs or had to be chosen; empty where nothing is.
        short: As beside a point of a picture; empty where that is the title.
        published_on: Backbones on which its placements are those of its authors' paper or code, transformers of text
            counted as plain ones; on others it is our reading.
    """

    name: str
    title: str
    references: tuple[Reference, ...]
    build: Callable[..., Placements]
    note: str = ""
    short: str = ""
    published_on: tuple[str, ...] = (PLAIN,)

    @property
    def options(self) -> dict[str, Any]:
        """Its options, such as rank or length, with their published values."""
        return {name: p.default for name, p in inspect.signature(self.build).parameters.items()}

    def placements(self, **options: Any) -> Placements:
        """The method's placements; their blocks are patterns until a design resolves them.

        Raises:
            InputError: An option that it does not have, or an illegal value.
        """
        for option in options:
            if option not in self.options:
                todo = nearest(option, self.options)
                raise InputError(f"preset '{self.name}'", "only its own options can be set", f"'{option}'", todo)
        return self.build(**options)


def _linear_probe() -> Placements:
    return ()


def _bitfit(ends: bool = False) -> Placements:
    return tuple(Placement(operation, BiasConfig()) for operation in (*NORMS, *LINEAR, *_ends(ends)))


def _ln_tuning(ends: bool = False) -> Placements:
    # A scale-shift of the last norm reaches what its weight and bias do.
    last = tuple(Placement(at, ScaleShiftConfig()) for at in _ends(ends) if at == "final")
    return (Placement("attention", NormConfig()), Placement("mlp", NormConfig()), *last)


def _ssf(ends: bool = False) -> Placements:
    return tuple(Placement(operation, ScaleShiftConfig()) for operation in (*NORMS, *LINEAR, *_ends(ends)))


def _houlsby(rank: int = 64) -> Placements:
    return tuple(Placement(at, AdapterConfig(rank), "sequential") for at in _sublayers())


def _pfeiffer(rank: int = 64) -> Placements:
    return (Placement("block", AdapterConfig(rank, "relu"), "sequential"),)


def _adapter(rank: int = 10) -> Placements:
    return (Placement("mlp", AdapterConfig(rank), "sequential"),)


def _adaptformer(rank: int = 64, scale: Scale = 0.1) -> Placements:
    return (Placement("mlp", AdapterConfig(rank, "relu"), "parallel", scale),)


def _adapter_plus(rank: int = 8) -> Placements:
    return (Placement("block", AdapterConfig(rank), "sequential", "channel"),)


def _parallel_adapter(rank: int = 512, scale: Scale = 4.0) -> Placements:
    return (Placement("mlp", AdapterConfig(rank, "relu"), "parallel", scale),)


def _lora(rank: int = 8) -> Placements:
    return tuple(Placement(at, LoraConfig(rank), "parallel") for at in _parts("q", "v"))


def _lora_all(rank: int = 8) -> Placements:
    return tuple(Placement(at, LoraConfig(rank), "parallel") for at in LINEAR)


def _fact(rank: int = 16) -> Placements:
    return tuple(Placement(at, FactConfig(rank)) for at in LINEAR)


def _prefix(length: int = 10) -> Placements:
    return (Placement("attention", PrefixConfig(length, "exact")),)


def _vpt_shallow(length: int = 10) -> Placements:
    return (Placement("block", PromptConfig(length, "shallow"), blocks="first 1"),)


def _vpt_deep(length: int = 10) -> Placements:
    return (Placement("block", PromptConfig(length, "deep")),)


def _mam(length: int = 30, rank: int = 512, scale: Scale = 4.0) -> Placements:
    return (*_prefix(length), *_parallel_adapter(rank, scale))


def _unipelt(rank: int = 8, length: int = 10, adapter_rank: int = 48) -> Placements:
    lora = (Placement(at, LoraConfig(rank), "parallel", "gate") for at in _parts("q", "v"))
    prefix = Placement("attention", PrefixConfig(length, "gated"))
    return (*lora, prefix, Placement("block", AdapterConfig(adapter_rank, "relu"), "sequential", "gate"))


def _convpass(rank: int = 8, scale: Scale = 1.0, depthwise: bool = False) -> Placements:
    return tuple(Placement(at, ConvConfig(rank, depthwise), "parallel", scale) for at in _cores())


def _single(size: int = 10, operation: Operation = "attention", tuner: str = "adapter") -> Placements:
    return (_u_tuner(operation, tuner, size),)


def _dual(size: int = 10, attention: str = "adapter", mlp: str = "adapter", scale: Scale = "channel") -> Placements:
    return (_u_tuner("attention", attention, size, scale), _u_tuner("mlp", mlp, size, scale))


def _tri(
    size: int = 10, attention: str = "adapter", mlp: str = "adapter", block: str = "prefix", scale: Scale = "channel"
) -> Placements:
    return (*_dual(size, attention, mlp, scale), _u_tuner("block", block, size, "none"))


def _u_tuning_1(size: int = 10) -> Placements:
    first = "first 1"
    return tuple(Placement(at, AdapterConfig(size), "parallel", blocks=first) for at in _sublayers())


def _bypass(rank: int = 10) -> Placements:
    return (Placement("block", AdapterConfig(rank), "bypass"),)


def _scedit(rank: int = 10) -> Placements:
    # The residual has no operation of its own, so this is the parallel form at attention; see Placement.
    return (Placement("attention", AdapterConfig(rank), "parallel"),)


def _mlae(rank: int = 8, dropout: float = 0.5) -> Placements:
    return tuple(Placement(at, ExpertsConfig(rank, dropout), "parallel") for at in ("qkv", "proj"))


def _sas(rank: int = 4, embedding: int = 4) -> Placements:
    return tuple(Placement(at, SasConfig(rank, embedding)) for at in NORMS)


def _g_adapter(rank: int = 10, graph: str = "grid4", joined: bool = False) -> Placements:
    return (Placement("mlp", GraphConfig(rank, graph, joined), "sequential"),)


def _dora(rank: int = 8) -> Placements:
    return tuple(Placement(at, DoraConfig(rank)) for at in _parts("q", "k", "v", "fc1", "fc2"))


def _rlrr(ends: bool = True) -> Placements:
    scales = tuple(Placement(at, RescaleConfig("both")) for at in PARTS)
    shifts = tuple(Placement(at, BiasConfig()) for at in PARTS if at != "k")
    return (*scales, *shifts, *(Placement(at, ScaleShiftConfig()) for at in (*NORMS, *_ends(ends))))


def _ia3() -> Placements:
    outputs = tuple(Placement(at, ScaleShiftConfig(shift=False)) for at in _parts("k", "v"))
    return (*outputs, Placement("fc2", RescaleConfig("inputs")))


def _oft(parts: int = 96) -> Placements:
    return tuple(Placement(at, OftConfig(parts)) for at in _parts("q", "k", "v", "proj"))


def _vera(rank: int = 256) -> Placements:
    return tuple(Placement(at, VeraConfig(rank)) for at in _parts("q", "v"))


def _kadaptation(rank: int = 1, terms: int = 32) -> Placements:
    return tuple(Placement(at, KroneckerConfig(rank, terms)) for at in _parts("q", "v"))


def _compacter(rank: int = 24, terms: int = 4) -> Placements:
    return tuple(Placement(at, CompacterConfig(rank, terms), "sequential") for at in _sublayers())


def _consolidator(groups: int = 384) -> Placements:
    return tuple(Placement(at, tuner) for at in LINEAR for tuner in (GroupedConfig(groups), BiasConfig()))


def _repadapter(rank: int = 8, groups: int = 2, scale: Scale = 1.0) -> Placements:
    return tuple(Placement(at, RepAdapterConfig(rank, groups), "sequential", scale) for at in NORMS)


def _arc(rank: int = 50) -> Placements:
    return tuple(Placement(at, ArcConfig(rank)) for at in NORMS)


def _hydra(rank: int = 2) -> Placements:
    return tuple(Placement(at, LoraConfig(rank), "mixed") for at in _parts("proj", "fc2"))


def _adapter_bias() -> Placements:
    return (Placement("fc2", LoraConfig(1), "parallel"),)


def _aim(rank: int = 192, scale: Scale = 0.5) -> Placements:
    spatial = Placement("attention", AdapterConfig(rank), "sequential")
    return (spatial, Placement("ffn", AdapterConfig(rank), "parallel", scale))


def _e2vpt(length: int = 10, rows: int = 5) -> Placements:
    return (*_vpt_deep(length), *_prefix(rows))


def _ends(wanted: bool) -> tuple[Operation, ...]:
    """What lies outside the blocks."""
    if not isinstance(wanted, bool):
        raise InputError("preset", "ends is true or false", repr(wanted))
    return OUTSIDE_OPERATIONS if wanted else ()


def _sublayers() -> tuple[Operation, ...]:
    return ("attention", "mlp")


def _cores() -> tuple[Operation, ...]:
    return ("mhsa", "ffn")


def _parts(*names: Operation) -> tuple[Operation, ...]:
    return names


def _u_tuner(operation: Operation, kind: str, size: int, scale: Scale = "none") -> Placement:
    """One of U-Tuning's parallel tuners at an operation (Tables 4-6 of 2303.00690)."""
    kinds: dict[str, TunerConfig] = {
        "adapter": AdapterConfig(size),
        "prefix": PrefixConfig(size, "parallel"),
        "prompt": PromptConfig(size, "parallel"),
    }
    if kind not in kinds:
        raise InputError("preset of U-Tuning", "a tuner is adapter, prefix or prompt", f"'{kind}'")
    return Placement(operation, kinds[kind], "parallel", scale)


ZERO_INIT = "W_up starts at zero here"
# Of backbones that no paper of these methods had.
NO_PLACE = "what it inserts has no place in attentions with rotary embeddings or relative positions"
GATED = "of a gated MLP fc1 is gate and value together"

PRESETS: tuple[Preset, ...] = (
    Preset("linear-probe", "Linear probe", (), _linear_probe),
    Preset("bitfit", "BitFit", (papers.BITFIT,), _bitfit, "inside the blocks; with ends=true the whole backbone"),
    Preset("ln-tuning", "LN-tuning", (papers.LN_TUNING,), _ln_tuning, "inside the blocks; with ends=true all norms"),
    Preset(
        "ssf",
        "SSF",
        (papers.SSF,),
        _ssf,
        "inside the blocks; with ends=true the whole backbone",
        published_on=(PLAIN, SWIN),
    ),
    Preset("houlsby", "Houlsby adapter", (papers.ADAPTER,), _houlsby, ZERO_INIT),
    Preset("pfeiffer", "Pfeiffer adapter", (papers.PFEIFFER, papers.ADAPTER), _pfeiffer, ZERO_INIT),
    Preset("adapter", "Adapter (of U-Tuning's tables)", (papers.ADAPTER, papers.U_TUNING), _adapter, short="Adapter"),
    Preset("adaptformer", "AdaptFormer", (papers.ADAPTFORMER,), _adaptformer),
    Preset("adapter-plus", "Adapter+", (papers.ADAPTER_PLUS, papers.ADAPTER), _adapter_plus, ZERO_INIT),
    Preset("parallel-adapter", "Parallel adapter", (papers.UNIFIED_VIEW,), _parallel_adapter),
    Preset("lora", "LoRA (q, v)", (papers.LORA,), _lora, "alpha = rank"),
    Preset("lora-all", "LoRA (all linear)", (papers.LORA,), _lora_all, f"alpha = rank; {GATED}"),
    Preset("fact", "FacT-TT", (papers.FACT,), _fact, f"scale 1; the paper tunes it; {GATED}"),
    Preset("prefix", "Prefix tuning", (papers.PREFIX,), _prefix, f"without the reparametrising MLP; {NO_PLACE}"),
    Preset("vpt-shallow", "VPT-shallow", (papers.VPT,), _vpt_shallow, NO_PLACE),
    Preset("vpt-deep", "VPT-deep", (papers.VPT,), _vpt_deep, NO_PLACE),
    Preset("mam", "MAM adapter", (papers.UNIFIED_VIEW,), _mam, NO_PLACE),
    Preset(
        "unipelt",
        "UniPELT",
        (papers.UNIPELT,),
        _unipelt,
        "a gate for each of q and v; gates start at 1/2; without the reparametrising MLP",
    ),
    Preset("convpass", "Convpass", (papers.CONVPASS,), _convpass, "scale 1; the paper tunes it; no dropout"),
    Preset("u-tuning-single", "U-Tuning single", (papers.U_TUNING,), _single),
    Preset("u-tuning-dual", "U-Tuning dual", (papers.U_TUNING,), _dual),
    Preset("u-tuning-tri", "U-Tuning tri", (papers.U_TUNING,), _tri),
    Preset("u-tuning-1", "U-Tuning/1", (papers.U_TUNING,), _u_tuning_1),
    Preset("res-tuning", "Res-Tuning", (papers.RES_TUNING,), _dual, "its dual adapters are U-Tuning's dual"),
    Preset("res-tuning-bypass", "Res-Tuning-Bypass", (papers.RES_TUNING,), _bypass),
    Preset("scedit", "SCEdit's tuner", (papers.SCEDIT,), _scedit, "on the residual of a ViT, which has no long skips"),
    Preset("repadapter", "RepAdapter", (papers.REPADAPTER,), _repadapter, "no dropout; the paper tunes its scale"),
    Preset("arc", "ARC", (papers.ARC,), _arc, "no dropout; starts at zero before the MLP too"),
    Preset(
        "sas",
        "SaS",
        (papers.SAS,),
        _sas,
        "as described in the abstract, with less than .05% of ViT-B's parameters; that the hypernetwork is one linear "
        "map, its sizes and its place behind the norms are our reading",
    ),
    Preset(
        "g-adapter",
        "G-Adapter",
        (papers.G_ADAPTER,),
        _g_adapter,
        "as described in the abstract; that an image's graph is its patch grid, its place after the MLP and its biases "
        "are our reading; the task's `proximal` is its Bregman regularisation",
    ),
    Preset("dora", "DoRA", (papers.DORA, papers.LORA), _dora, "at q, k, v and both maps of the MLP; alpha = rank"),
    Preset(
        "rlrr",
        "RLRR",
        (papers.RLRR,),
        _rlrr,
        "no shift of keys, which softmax does not see; starts as the backbone",
    ),
    Preset("ia3", "(IA)³", (papers.IA3,), _ia3),
    Preset("vera", "VeRA (q, v)", (papers.VERA,), _vera, short="VeRA"),
    Preset("oft", "OFT", (papers.OFT,), _oft, "rotations of 8 inputs each on ViT-B, at the maps of attention"),
    Preset(
        "kadaptation",
        "KAdaptation",
        (papers.KADAPTATION,),
        _kadaptation,
        "at q and v; alpha = 1; A_i are whole matrices",
    ),
    Preset("compacter", "Compacter", (papers.COMPACTER, papers.ADAPTER), _compacter, ZERO_INIT),
    Preset(
        "consolidator",
        "Consolidator",
        (papers.CONSOLIDATOR,),
        _consolidator,
        "starts at zero; channels are reordered, as in the paper; the change is not dropped while training",
    ),
    Preset("hydra", "Hydra", (papers.HYDRA, papers.LORA), _hydra, "without biases of its own"),
    Preset(
        "adapterbias", "AdapterBias", (papers.ADAPTER_BIAS,), _adapter_bias, "a token's weight has no bias; norms stay"
    ),
    Preset("aim", "AIM", (papers.AIM, papers.ADAPTER), _aim, f"{ZERO_INIT}; an image has no temporal adapter"),
    Preset("e2vpt", "E²VPT", (papers.E2VPT, papers.VPT), _e2vpt, "no prompt is pruned; keys and values are not shared"),
    Preset("mlae", "MLAE", (papers.MLAE, papers.LORA), _mlae, "rank and dropout are ours; no learned coefficients"),
)
