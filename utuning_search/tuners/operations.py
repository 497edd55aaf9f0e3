"""The words of the algebra: operations of a block, forms in which a tuner joins one, and scales before it."""

from typing import Literal

Operation = Literal[
    "attention",
    "mlp",
    "block",
    "mhsa",
    "ffn",
    "norm1",
    "norm2",
    "qkv",
    "q",
    "k",
    "v",
    "proj",
    "fc1",
    "fc2",
    "patches",
    "final",
]
Form = Literal["parallel", "sequential", "mixed", "inside", "bypass"]
Scale = Literal["none", "scalar", "channel", "gate"] | float

TOKEN_OPERATIONS: tuple[Operation, ...] = ("attention", "mlp", "block")
# Attention and MLP without their LayerNorm: a parallel tuner there reads normalised tokens. What it adds joins the
# residual stream like any other, so only the parallel form differs from that at `attention` and `mlp`.
CORE_OPERATIONS: tuple[Operation, ...] = ("mhsa", "ffn")
NORM_OPERATIONS: tuple[Operation, ...] = ("norm1", "norm2")
QKV_PARTS: tuple[Operation, ...] = ("q", "k", "v")
LINEAR_OPERATIONS: tuple[Operation, ...] = ("qkv", *QKV_PARTS, "proj", "fc1", "fc2")
# Outside the blocks: the patch embedding before positions are added, and the last norm, before or after pooling.
OUTSIDE_OPERATIONS: tuple[Operation, ...] = ("patches", "final")
# Keys of designs hang on this order, so what is new comes last.
OPERATIONS: tuple[Operation, ...] = (
    TOKEN_OPERATIONS + CORE_OPERATIONS + NORM_OPERATIONS + LINEAR_OPERATIONS + OUTSIDE_OPERATIONS
)
ADDITIVE_FORMS: tuple[Form, ...] = ("parallel", "sequential", "mixed")
FORMS: tuple[Form, ...] = (*ADDITIVE_FORMS, "inside", "bypass")
LEARNED_SCALES = ("scalar", "channel")  # start at 0 where the tuner does not
GATE = "gate"  # σ(w·t + b), averaged over the tokens t that the tuner reads: one number an image
