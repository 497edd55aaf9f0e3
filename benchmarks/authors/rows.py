"""What is compared with whose code: one row a comparison, and the presets that no code is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import vision
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


PLUS = "visinf/adapter_plus"

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
)

NOT_COMPARABLE: dict[str, str] = {
    "linear-probe": "it has no tuners",
}
