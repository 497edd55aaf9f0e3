"""A tuned model that has folded into its backbone, as timm's own model with a head: weights, and timm's config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from utuning_search.backbones.embedded.architecture import GLYPH_VIT, TIMM_ARGS, TIMM_NAME
from utuning_search.backbones.names import parse_name
from utuning_search.backbones.opened import opened
from utuning_search.backbones.origin import origin_of
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError

KEPT = ("fixed_input_size", "first_conv", "classifier")  # of timm's own configuration of a model


def as_timm(
    model: TunedModel,
    spec: BackboneSpec,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    loaded_by: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a timm model with a head that computes what `model` does, and the config.json that builds it.

    Args:
        model: Merged, with no tuner left.
        spec: Of its backbone.
        preprocessing: Of its images.
        classes: Names by index of a logit.
        loaded_by: The name that the backbone was loaded by, where it is not the spec's.

    Raises:
        BackboneError: timm's model of that name has other tensors, or no place for a bias.
    """
    name, args = _made_with(loaded_by or spec.exact, spec, preprocessing)
    if model.adapter.any_size:
        args.pop("img_size", None)
    args |= model.adapter.head_arguments
    state = {n: t.detach() for n, t in model.adapter.plain_state().items()}
    target = _built(name, args, len(classes))
    biases = [n for n in state.keys() - target.state_dict().keys() if n.endswith("bias")]
    if biases:  # a tuner gave a bias to maps that had none
        args |= model.adapter.bias_arguments(biases)
        target = _built(name, args, len(classes))
    own = target.state_dict()
    state |= {n: torch.zeros_like(t) for n, t in own.items() if n not in state and n.endswith("bias")}
    state |= _heads(model, own)
    wrong = sorted(state.keys() ^ own.keys()) or [n for n in own if own[n].shape != state[n].shape]
    if wrong:
        raise BackboneError(f"backbone '{spec.name}'", f"timm's {name} has the same tensors", ", ".join(wrong[:5]))
    known: Mapping[str, Any] = getattr(target, "pretrained_cfg", {})
    licence = origin_of(spec.name, spec.checkpoint).licence
    config = {
        "architecture": name,
        "num_classes": len(classes),
        "num_features": model.adapter.num_features,
        "label_names": list(classes),
        **({"model_args": args} if args else {}),
        "pretrained_cfg": {
            "input_size": [preprocessing.channels, preprocessing.image_size, preprocessing.image_size],
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop,
            "crop_mode": "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": len(classes),
            "custom_load": False,
            **{key: known[key] for key in KEPT if known.get(key) is not None},
            **({"license": licence} if licence else {}),
        },
    }
    return {n: state[n].clone().contiguous() for n in own}, config


def _made_with(name: str, spec: BackboneSpec, preprocessing: Preprocessing) -> tuple[str, dict[str, Any]]:
    """timm's name for a backbone's architecture, and the arguments that make it, as JSON holds them."""
    if name == GLYPH_VIT:
        return TIMM_NAME, dict(TIMM_ARGS)
    named = parse_name(name)
    if not named.source:
        return name.partition(".")[0], {"img_size": spec.image_size} if spec.image_size else {}
    made, _ = opened(named)
    size = {"img_size": preprocessing.image_size, "in_chans": preprocessing.channels}
    return made.architecture, {k: v for k, v in {**made.args, **size}.items() if k != "num_classes"}


def load_plain(folder: Path) -> nn.Module:
    """The model of a folder with config.json and model.safetensors, as any user of timm loads it, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return model.eval()


def _built(name: str, args: Mapping[str, Any], classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # timm draws weights
        try:
            model: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **args)
        except TypeError as error:
            todo = "Export it with --format onnx or torch."
            raise BackboneError(f"timm's {name}", "it can be made with the biases of the design", error, todo) from None
    return model


def _heads(model: TunedModel, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head, under each name that the family has for one: of several, timm takes the mean of their logits."""
    head = {"weight": model.head.weight.detach(), "bias": model.head.bias.detach()}
    return {f"{p}{n}": t for p in model.adapter.head for n, t in head.items() if f"{p}{n}" in own}
