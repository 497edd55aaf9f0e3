"""Load an exported tuner: a folder in, a module that predicts out."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from utuning_search.backbones import vit
from utuning_search.backbones.merge import merge as merge_tuners
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.common.toml import build
from utuning_search.data.places import find_data
from utuning_search.designs.design import Design
from utuning_search.training.runtime import resolve_device
from utuning_search.training.weights import CHECK

TUNER_TOML, TUNER_WEIGHTS = "tuner.toml", "tuner.safetensors"
FORMAT = 1


class TunedClassifier(nn.Module):
    """An exported design on its backbone: what `load_tuned` returns.

    Attributes:
        classes: Names by index of a logit.
        preprocessing: Size, channels, mean and std of the input.
        design: What was tuned.
    """

    def __init__(self, model: TunedModel, preprocessing: vit.Preprocessing, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.preprocessing, self.classes, self.design = preprocessing, classes, model.design

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 (batch, channels, size, size), resized already, to normalised float32."""
        size, channels = self.preprocessing.image_size, self.preprocessing.channels
        if images.dtype != torch.uint8 or images.shape[1:] != (channels, size, size):
            rule = f"images are uint8 of (batch, {channels}, {size}, {size})"
            raise InputError("preprocess", rule, f"{images.dtype} of {tuple(images.shape)}")
        return self.preprocessing.normalise(images)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (batch, channels, size, size) to logits (batch, classes)."""
        logits: Tensor = self.model(images)
        return logits


def load_tuned(
    folder: Path | str,
    *,
    merge: bool = False,
    device: str = "cpu",
    data_dir: Path | str | None = None,
    checkpoint: Path | str | None = None,
) -> TunedClassifier:
    """The tuned model of an exported folder, in evaluation mode.

    Args:
        folder: With tuner.toml and tuner.safetensors.
        merge: Fold what can be folded into the backbone's weights: the same logits up to rounding, no extra cost
            for LoRA, scale-shift, bias and norm tuners.
        device: "cpu", "cuda", "mps" or "auto".
        data_dir: Where the backbone's checkpoint is looked up, if the design was trained on a local one.
        checkpoint: That file itself, wherever it is now.

    Raises:
        InputError: Files are missing or damaged.
        BackboneError: The backbone's weights are not those the tuner was trained on, or the tuner does not fit.
    """
    folder = Path(folder)
    table, tensors = _read(folder)
    where = f"{folder / TUNER_TOML}, backbone"
    digest = table["backbone"].pop("digest", None)
    spec = build(BackboneSpec, table["backbone"], where)
    path = Path(checkpoint) if checkpoint is not None else None
    if path is None and spec.checkpoint:
        path = find_data(spec.checkpoint, None if data_dir is None else Path(data_dir), where)
    backbone = vit.load_backbone(spec.name, path, spec.image_size or None)
    if weights_digest(backbone) != digest:
        todo = "Give the checkpoint it was trained on."
        raise BackboneError(where, f"its weights' digest is {digest}", weights_digest(backbone), todo)
    kind = resolve_device(device)
    if kind == "cpu":
        vit.unfuse_attention(backbone)  # as in training: the two kernels round differently
    model = TunedModel(backbone, Design.from_dict(table["design"], str(folder / TUNER_TOML)), len(table["classes"]))
    tensors.pop(CHECK, None)
    model.load_tuner_state_dict(tensors)
    model = merge_tuners(model) if merge else model
    preprocessing = vit.preprocessing_of(backbone, spec.name)
    return TunedClassifier(model, preprocessing, tuple(table["classes"])).to(kind).eval()


def read_design(folder: Path) -> tuple[Design, int]:
    """The design of an exported folder, and the depth of its backbone; neither weights nor backbone are loaded."""
    table = _read_table(folder)
    design = Design.from_dict(table["design"], str(folder / TUNER_TOML))
    last = max((block for p in design.placements for block in p.block_numbers()), default=1)
    return design, table.get("shape", {}).get("depth", last)  # the first exports did not keep it


def weights_digest(backbone: nn.Module) -> str:
    """Twelve hexadecimal digits of all parameters and buffers of a backbone."""
    content = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    for name in (TUNER_TOML, TUNER_WEIGHTS):
        if not (folder / name).is_file():
            todo = "Make one with: utuning-search export NAME"
            raise InputError(f"exported tuner {folder}", f"{name} is in it", "no such file", todo)
    try:
        tensors = safetensors.torch.load_file(folder / TUNER_WEIGHTS)
    except Exception as error:
        raise InputError(
            f"exported tuner {folder}", "its files are readable", f"{type(error).__name__}: {error}"
        ) from None
    return _read_table(folder), tensors


def _read_table(folder: Path) -> dict[str, Any]:
    path = folder / TUNER_TOML
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise InputError(
            f"exported tuner {folder}", "its files are readable", f"{type(error).__name__}: {error}"
        ) from None
    if table.get("format") != FORMAT:
        raise InputError(str(path), f"its format is {FORMAT}", table.get("format"))
    for key, kind in (("classes", list), ("design", dict), ("backbone", dict)):
        if not isinstance(table.get(key), kind) or not table[key]:
            raise InputError(str(path), f"it holds {key}", repr(table.get(key)), "Export it again.")
    return table
