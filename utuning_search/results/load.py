"""Load an exported tuner: a folder in, a module that predicts out."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from utuning_search.backbones.checkpoint import weights_digest
from utuning_search.backbones.loading import load_digested, preprocessing_of
from utuning_search.backbones.merge import merge as merge_tuners
from utuning_search.backbones.names import FOLDER
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.common.toml import build
from utuning_search.data.decoding import Decoding
from utuning_search.data.places import find_backbone, find_data
from utuning_search.designs.design import Design
from utuning_search.results.checked import AT_LOADING, difference, tolerance
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.exported import TUNER_TOML, TUNER_WEIGHTS, read_exported
from utuning_search.results.threshold import UNKNOWN, Threshold
from utuning_search.training.runtime import resolve_device
from utuning_search.training.weights import CHECK, SEAL, check_images, is_whole, tuner_digest


def load_tuned(
    folder: Path | str,
    *,
    merge: bool = False,
    device: str = "cpu",
    data_dir: Path | str | None = None,
    checkpoint: Path | str | None = None,
) -> TunedClassifier:
    """The tuned model of an exported folder, in evaluation mode, checked to compute what its training computed.

    Args:
        folder: With tuner.toml and tuner.safetensors.
        merge: Fold what can be folded into the backbone's weights: the same logits up to rounding, no extra cost
            for LoRA, scale-shift, bias and norm tuners.
        device: "cpu", "cuda", "mps" or "auto".
        data_dir: Where the backbone's checkpoint or folder is looked up, if the design was trained on a local one.
        checkpoint: That file or folder itself, wherever it is now.

    Raises:
        InputError: Files are missing or damaged, or weights are not those that were exported.
        BackboneError: The backbone's weights are not those the tuner was trained on, the tuner does not fit, or
            together they do not compute what they did after training.
    """
    folder = Path(folder)
    kind = resolve_device(device)
    model, tensors, digest = open_tuned(folder, data_dir=data_dir, checkpoint=checkpoint, fused=kind != "cpu")
    if digest is not None or SEAL in tensors:  # the first exports have neither
        _check(model, tensors, digest, folder)
    model.model = merge_tuners(model.model) if merge else model.model
    return model.to(kind).eval()


def open_tuned(
    folder: Path,
    *,
    data_dir: Path | str | None = None,
    checkpoint: Path | str | None = None,
    fused: bool = False,
) -> tuple[TunedClassifier, dict[str, Tensor], str | None]:
    """As `load_tuned`, on the CPU and not yet checked, with the file's tensors and the digest that they should have."""
    table, tensors = read_exported(folder)
    where = f"{folder / TUNER_TOML}, backbone"
    digest = table["backbone"].pop("digest", None)
    spec = build(BackboneSpec, table["backbone"], where)
    path = Path(checkpoint) if checkpoint is not None else None
    looked_in = None if data_dir is None else Path(data_dir)
    if path is not None and path.is_dir():
        name, path = f"{FOLDER}:{path}", None
    else:
        name = find_backbone(spec, looked_in, where)
        if path is None and spec.checkpoint:
            path = find_data(spec.checkpoint, looked_in, where)
    backbone, read = load_digested(name, path, spec.image_size or None)
    # The first exports have the digest of a backbone as it is once loaded, with what was resampled.
    if digest not in (read, weights_digest(backbone.state_dict())):
        todo = "Give the checkpoint it was trained on."
        raise BackboneError(where, f"its weights' digest is {digest}", read, todo)
    if not fused:
        adapter_of(backbone).unfuse_attention()  # as in training: the two kernels round differently
    model = TunedModel(backbone, Design.from_dict(table["design"], str(folder / TUNER_TOML)), len(table["classes"]))
    model.load_tuner_state_dict({name: tensor for name, tensor in tensors.items() if name not in (CHECK, SEAL)})
    preprocessing = preprocessing_of(backbone, name, spec.crop)
    decoding = Decoding.from_dict(table.get("decoding", {}))
    kept = table.get(UNKNOWN)
    threshold = None if kept is None else Threshold.from_dict(kept, f"{folder / TUNER_TOML}, {UNKNOWN}")
    tuned = TunedClassifier(model, preprocessing, tuple(table["classes"]), decoding, threshold)
    return tuned.eval(), tensors, table.get("digest")


def _check(model: TunedClassifier, tensors: Mapping[str, Tensor], digest: str | None, folder: Path) -> None:
    """Raise unless weights are those that were exported, and their logits those of the training."""
    where, todo = f"exported tuner {folder}", "Export it again."
    found = tuner_digest(tensors)
    if digest not in (found, None):
        raise InputError(where, f"the digest of {TUNER_WEIGHTS} is {digest}, as {TUNER_TOML} says", found, todo)
    wanted = tensors.get(CHECK)
    if wanted is None or not is_whole(tensors):
        got = f"no {CHECK}" if wanted is None else "others"
        raise InputError(where, f"{TUNER_WEIGHTS} holds the logits that it was exported with", got, todo)
    images = model.preprocess(check_images(model.preprocessing)[:AT_LOADING])
    apart = difference(model, images, wanted[:AT_LOADING])
    if not apart <= tolerance(wanted):
        rule = f"its logits on images of noise are those of its training, up to {tolerance(wanted):.1e}"
        todo = "Its backbone computes something else here: take the versions that its tuner.toml names."
        raise BackboneError(where, rule, f"a difference of {apart:.1e}", todo)
