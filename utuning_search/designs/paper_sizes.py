"""What papers print about the sizes of their methods on ViT-B/16, beside what the closed form gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from utuning_search.designs.design import Design
from utuning_search.tuners import BackboneShape

VIT_B = BackboneShape(
    dim=768,
    depth=12,
    num_heads=12,
    head_dim=64,
    hidden=3072,
    hidden_in=3072,
    parameters=85_798_656,
    grid=(14, 14),
    prefix_tokens=1,
    flops_outside=2 * 14 * 14 * 3 * 16 * 16 * 768,
)
NO_HEAD, CIFAR = 0, 100
VTAB = 940 / 19  # mean number of classes over the 19 tasks of VTAB-1k
FGVC = 180_000 / 769  # of a mean head of .18 M over the five FGVC sets, as printed
U_TUNING, RES_TUNING, RLRR = "U-Tuning 2303.00690", "Res-Tuning 2310.19859", "RLRR 2403.19067"
KEY_SHIFTS = "with 9,216 shifts of keys, to which softmax is blind, it is"


@dataclass(frozen=True)
class PrintedSize:
    """One printed size.

    Attributes:
        preset: Name.
        options: Where they are not the preset's own.
        printed: Millions of trainable parameters, as printed, without a leading zero.
        classes: Of the head that is counted in, a mean over several sets where it is not whole; 0 without a head.
        source: The table's paper.
        remark: Why it disagrees with the closed form; empty where both are equal to the printed digits.
    """

    preset: str
    printed: str
    classes: float
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def computed(self) -> float:
        """Trainable parameters by the closed form; a fraction where the head is a mean."""
        return Design.preset(self.preset, **self.options).num_parameters(VIT_B) + (VIT_B.dim + 1) * self.classes

    @property
    def rounded(self) -> str:
        """`computed` in millions to the digits printed."""
        digits = len(self.printed.partition(".")[2])
        return f"{self.computed / 1e6:.{digits}f}".removeprefix("0")


PAPER_SIZES: tuple[PrintedSize, ...] = (
    PrintedSize("linear-probe", ".07", CIFAR, U_TUNING, remark="76,900: cut, not rounded"),
    PrintedSize("prefix", ".26", CIFAR, U_TUNING),
    PrintedSize("prefix", ".36", FGVC, U_TUNING),
    PrintedSize("vpt-shallow", ".08", CIFAR, U_TUNING),
    PrintedSize("vpt-deep", ".17", CIFAR, U_TUNING),
    PrintedSize("adapter", ".27", CIFAR, U_TUNING),
    PrintedSize("adaptformer", "1.26", CIFAR, U_TUNING, remark="1.2665: cut, not rounded"),
    PrintedSize("adaptformer", "1.19", NO_HEAD, "DyT's table"),
    PrintedSize("bitfit", ".28", FGVC, U_TUNING),
    PrintedSize("u-tuning-1", ".11", CIFAR, U_TUNING),
    PrintedSize("u-tuning-tri", ".67", CIFAR, U_TUNING),
    PrintedSize(
        "u-tuning-dual", ".59", CIFAR, U_TUNING, remark="no rank gives it; the same paper's tri without a head is .59"
    ),
    PrintedSize("res-tuning", ".48", CIFAR, RES_TUNING),
    PrintedSize("u-tuning-dual", ".36", FGVC, U_TUNING, {"size": 4}),
    PrintedSize(
        "u-tuning-single", ".17", CIFAR, RES_TUNING, remark="its dual of .48 is two singles of .27 and one head"
    ),
    PrintedSize("u-tuning-tri", ".67", CIFAR, RES_TUNING),
    PrintedSize("res-tuning-bypass", ".46", CIFAR, RES_TUNING),
    PrintedSize("ssf", ".28", CIFAR, "SSF 2210.08823", {"ends": True}),
    PrintedSize("ssf", ".24", VTAB, RLRR, {"ends": True}),
    PrintedSize("ssf", ".39", FGVC, RLRR, {"ends": True}),
    PrintedSize("bitfit", ".14", VTAB, RLRR, {"ends": True}),
    PrintedSize("lora", ".29", NO_HEAD, "NOAH 2206.04673"),
    PrintedSize("convpass", ".33", NO_HEAD, "Convpass 2207.07039"),
    PrintedSize("vera", ".0246", NO_HEAD, "VeRA 2310.11454"),
    PrintedSize("repadapter", ".22", NO_HEAD, "RepAdapter 2302.08106", remark="18,624 biases are not counted"),
    PrintedSize("arc", ".13", VTAB, "ARC 2310.06234"),
    PrintedSize("arc", ".25", FGVC, RLRR, remark="the table does not state its rank on FGVC; 50, as on VTAB, is .28"),
    PrintedSize("rlrr", ".33", VTAB, RLRR, remark=f"{KEY_SHIFTS} .33"),
    PrintedSize("rlrr", ".47", FGVC, RLRR, remark=f"{KEY_SHIFTS} .47"),
    PrintedSize("adapter-plus", ".20", VTAB, "Adapter+ 2406.06820"),
    PrintedSize("adapter-plus", ".07", VTAB, "Adapter+ 2406.06820", {"rank": 1}),
)
