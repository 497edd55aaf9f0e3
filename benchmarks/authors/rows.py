"""What is compared with whose code: one row a comparison, and the presets that no code is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import group, hub, installed, language, low_rank, parts, unipelt, vision, whole
from .compare import Difference


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        preset: Ours.
        repository: owner/name on GitHub.
        compared: What of theirs, in words.
        run: The comparison.
        differs: Why it is not equal, where it is known not to be; empty where it has to be equal.
        package: The installed library that is compared; empty where it is a checkout of the repository.
    """

    preset: str
    repository: str
    compared: str
    run: Callable[[Any], Difference]
    differs: str = ""
    package: str = ""


PLUS, SWIFT = "visinf/adapter_plus", "modelscope/ms-swift"
PEFT = "huggingface/peft"
UNIFIED = "jxhe/unify-parameter-efficient-tuning"
LAYER = "`MBartEncoderLayer`"
SCE_FILES = {
    SWIFT: "swift/tuners/scetuning/scetuning_components.py",
    "modelscope/scepter": "scepter/modules/model/tuner/sce/scetuning_component.py",
}

ROWS: tuple[Row, ...] = (
    Row("bitfit", "benzakenelad/BitFit", "which biases its `GLUEvaluator` trains, in a ViT", vision.bitfit),
    Row("ssf", "dongzelian/SSF", "the whole ViT", vision.ssf),
    Row("vpt-shallow", "KMnP/vpt", "the whole ViT", partial(vision.vpt, deep=False)),
    Row("vpt-deep", "KMnP/vpt", "the whole ViT", partial(vision.vpt, deep=True)),
    Row("adapter", "KMnP/vpt", "`Pfeiffer_Block`, its adapter baseline", vision.vpt_adapter),
    Row("adaptformer", "ShoufaChen/AdaptFormer", "the whole ViT", vision.adaptformer),
    Row("convpass", "JieShibo/PETL-ViT", "timm's ViT after `set_Convpass`", vision.convpass),
    Row("fact", "JieShibo/PETL-ViT", "timm's ViT after `set_FacT`", vision.fact),
    *(
        Row(name, PLUS, f"`AdapterBlock`, wiring `{wiring}`", partial(vision.adapter_plus, name=name))
        for name, (wiring, _) in vision.WIRINGS.items()
    ),
    Row("lora", "microsoft/LoRA", "`MergedLinear` for queries and values", low_rank.lora),
    Row("lora-all", "microsoft/LoRA", "`Linear` in the place of each linear map", low_rank.lora_all),
    Row("mlae", "jie040109/MLAE", "`MLAE_Linear`, evaluated", partial(low_rank.mlae, training=False)),
    Row("mlae", "jie040109/MLAE", "`MLAE_Linear`, trained, the same experts", partial(low_rank.mlae, training=True)),
    *(
        Row(name, SWIFT, "`ResTuner` as the residual x + s U(x)", partial(group.u_tuning, name=name))
        for name in ("u-tuning-single", "u-tuning-dual", "u-tuning-1", "res-tuning")
    ),
    Row(
        "u-tuning-tri",
        SWIFT,
        "`ResTuner` as the residual x + s U(x), the block's too",
        partial(group.u_tuning, name="u-tuning-tri", block="adapter"),
    ),
    Row("res-tuning-bypass", SWIFT, "both `ResTuner`s under the paper's λ", partial(group.bypass, mixed=True)),
    Row(
        "res-tuning-bypass",
        SWIFT,
        "timm's ViT after `ResTuning.prepare_model`",
        partial(group.bypass, mixed=False),
        "it adds both streams, without the paper's λ",
    ),
    *(
        Row("scedit", repository, "`SCEAdapter` as the residual", partial(group.scedit, file=file))
        for repository, file in SCE_FILES.items()
    ),
    Row("houlsby", "google-research/adapter-bert", "`feedforward_adapter`, with exact GELU", language.houlsby),
    Row("pfeiffer", UNIFIED, f"{LAYER}: `pfeiffer`", language.pfeiffer),
    Row("prefix", UNIFIED, f"{LAYER}: `concat`", language.prefix),
    Row("parallel-adapter", UNIFIED, f"{LAYER}: `parallel`, scalar 4", language.parallel_adapter),
    Row("mam", UNIFIED, f"{LAYER}: `concat` and `parallel`, scalar 4", language.mam),
    Row("u-tuning-single", UNIFIED, f"{LAYER}: `cross_attn_noln`, the prefix added", language.parallel_prefix),
    Row(
        "unipelt",
        "morningmoni/UniPELT",
        "its attention and its adapter, all gated, in pre-norm blocks",
        unipelt.compared,
    ),
    *(
        Row(name, "adapter-hub/adapters", "transformers' whole ViT", partial(hub.compared, name=name))
        for name in hub.OPTIONS
    ),
    Row("repadapter", "luogen1996/RepAdapter", "timm's ViT after `set_RepAdapter`", whole.repadapter),
    Row("arc", "DavidYanAnDe/ARC", "the whole ViT", whole.arc),
    Row("rlrr", "zstarN70/RLRR", "the whole ViT", whole.rlrr),
    Row("aim", "taoyang1122/adapt-image-models", "its `Block`, on single frames", whole.aim),
    Row("e2vpt", "ChengHan111/E2VPT", "the whole ViT, keys and values not shared", whole.e2vpt),
    Row(
        "consolidator",
        "THU-MIG/Consolidator",
        "`Consolidator` in each map's place, with the shuffle",
        parts.consolidator,
    ),
    Row("hydra", "extremebird/Hydra", "timm's ViT after `set_hydra`", parts.hydra),
    Row("adapterbias", "Allen0307/AdapterBias", "`BertOutput` in pre-norm blocks", parts.adapter_bias),
    Row("compacter", "rabeehk/compacter", "`HyperComplexAdapter`, with exact GELU", parts.compacter),
    Row(
        "kadaptation",
        "eric-ai-lab/PEViT",
        "`adapter_forward` of queries, for values too; whole A_i, scale 1",
        parts.kadaptation,
    ),
    Row("dora", PEFT, "timm's ViT with its layers in it", installed.dora, package="peft"),
    Row("ia3", PEFT, "timm's ViT with its layers in it", installed.ia3, package="peft"),
    Row("vera", PEFT, "timm's ViT with its layers in it, the same A and B", installed.vera, package="peft"),
    Row("oft", PEFT, "timm's ViT with its layers in it, Cayley's transform exact", installed.oft, package="peft"),
)

NOT_COMPARABLE: dict[str, str] = {
    "linear-probe": "it has no tuners",
    "ln-tuning": "no code of its authors is public as far as we know; it trains the norms' own weights",
    "sas": "no code of its authors is public as far as we know",
    "g-adapter": "no code of its authors is public as far as we know; its graphs are data of its tasks",
}
