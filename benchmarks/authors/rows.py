"""What is compared with whose code: one row a comparison, and the presets that no code is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import group, hub, language, low_rank, unipelt, vision
from .checkout import Checkout
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
    """

    preset: str
    repository: str
    compared: str
    run: Callable[[Checkout], Difference]
    differs: str = ""


PLUS, SWIFT = "visinf/adapter_plus", "modelscope/ms-swift"
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
)

NOT_COMPARABLE: dict[str, str] = {
    "linear-probe": "it has no tuners",
    "ln-tuning": "no code of its authors is public as far as we know; it trains the norms' own weights",
}
