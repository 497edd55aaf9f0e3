"""Load an exported tuner: a folder in, a module that predicts out."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor, nn

from utuning_search.backbones.loading import load_backbone, preprocessing_of
from utuning_search.backbones.merge import merge as merge_tuners
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.common.toml import build
from utuning_search.data.decoding import Decoding
from utuning_search.data.pixels import read_pictures
from utuning_search.data.places import find_data
from utuning_search.designs.design import Design
from utuning_search.results.exported import TUNER_TOML, read_exported
from utuning_search.training.runtime import resolve_device
from utuning_search.training.weights import CHECK


class TunedClassifier(nn.Module):
    """An exported design on its backbone: what `load_tuned` returns.

    Attributes:
        classes: Names by index of a logit.
        preprocessing: Size, channels, mean and std of the input.
        design: What was tuned.
        decoding: How the pictures that it was trained on were read.
    """

    def __init__(
        self,
        model: TunedModel,
        preprocessing: Preprocessing,
        classes: tuple[str, ...],
        decoding: Decoding = Decoding(),
    ) -> None:
        super().__init__()
        self.model = model
        self.preprocessing, self.classes, self.design = preprocessing, classes, model.design
        self.decoding = decoding

    def preprocess(self, images: Tensor | Path | str | Image | Iterable[Path | str | Image]) -> Tensor:
        """Pictures to what `forward` takes: normalised float32 (batch, channels, size, size), on the tuner's device.

        Args:
            images: Image files, or pictures of Pillow's, which are read as in training: turned upright as their EXIF
                orientation says, transparent ones put on the same ground, samples of more than 8 bits scaled by the
                same range, resized and cropped. Or uint8 (batch, channels, size, size), read and resized already.

        Raises:
            InputError: A file cannot be read, or a tensor is of another type or shape.
        """
        if not isinstance(images, Tensor):
            several = [images] if isinstance(images, Path | str | Image) else images
            read = read_pictures(several, self.preprocessing, self.decoding)
            return self.preprocessing.normalise(read.to(next(self.parameters()).device))
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
    table, tensors = read_exported(folder)
    where = f"{folder / TUNER_TOML}, backbone"
    digest = table["backbone"].pop("digest", None)
    spec = build(BackboneSpec, table["backbone"], where)
    path = Path(checkpoint) if checkpoint is not None else None
    if path is None and spec.checkpoint:
        path = find_data(spec.checkpoint, None if data_dir is None else Path(data_dir), where)
    backbone = load_backbone(spec.name, path, spec.image_size or None)
    if weights_digest(backbone) != digest:
        todo = "Give the checkpoint it was trained on."
        raise BackboneError(where, f"its weights' digest is {digest}", weights_digest(backbone), todo)
    kind = resolve_device(device)
    if kind == "cpu":
        adapter_of(backbone).unfuse_attention()  # as in training: the two kernels round differently
    model = TunedModel(backbone, Design.from_dict(table["design"], str(folder / TUNER_TOML)), len(table["classes"]))
    tensors.pop(CHECK, None)
    model.load_tuner_state_dict(tensors)
    model = merge_tuners(model) if merge else model
    preprocessing = preprocessing_of(backbone, spec.name)
    decoding = Decoding.from_dict(table.get("decoding", {}))
    return TunedClassifier(model, preprocessing, tuple(table["classes"]), decoding).to(kind).eval()


def weights_digest(backbone: nn.Module) -> str:
    """Twelve hexadecimal digits of all parameters and buffers of a backbone."""
    content = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
