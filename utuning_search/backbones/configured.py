"""A folder with a model: which of timm's it is, as its config.json says, and where its weights are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from torch import nn

from utuning_search.backbones.hub import CONFIG
from utuning_search.common.errors import InputError

# In this order; safetensors cannot hold code, and of the others only tensors are read.
WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_pytorch_model.bin",
)
NAMED = "hf_hub_filename"  # where timm's configuration names another one


@dataclass(frozen=True)
class Configured:
    """What a config.json says of a model.

    Attributes:
        where: What the user called it, for errors.
        architecture: Of timm.
        args: That it is made with, besides timm's own; what JSON can hold.
        weights: Names of files that its weights may be in, the best first.
        created: What `timm.create_model` is given besides the size.
    """

    where: str
    architecture: str
    args: Mapping[str, Any]
    weights: tuple[str, ...]
    created: Mapping[str, Any] = field(repr=False)

    def create(self, **size: Any) -> nn.Module:
        """The model without head and with fresh weights; `size` is what timm is told of its size.

        Raises:
            InputError: timm's model does not know one of its arguments.
        """
        model: nn.Module = timm.create_model(pretrained=False, num_classes=0, **{**self.created, **size})
        return model


def read_configured(table: Mapping[str, Any], folder: Path, where: str) -> Configured:
    """What timm's config.json of a folder says.

    Args:
        table: Of it.
        folder: That it is in.
        where: What the user called it, for errors.

    Raises:
        InputError: It is none of a model that timm makes.
    """
    architecture = table.get("architecture")
    if not isinstance(architecture, str):
        rule = f"its {CONFIG} names the architecture of a timm model, or the model_type of one of transformers"
        raise InputError(where, rule, "neither" if architecture is None else repr(architecture))
    if not timm.is_model(architecture):
        todo = f"A newer timm may have it; this is {timm.__version__}."
        raise InputError(where, f"its {CONFIG} names a model that timm has", f"'{architecture}'", todo)
    own, args = table.get("pretrained_cfg", table), table.get("model_args", {})
    if not isinstance(own, dict) or not isinstance(args, dict):
        raise InputError(where, f"pretrained_cfg and model_args of its {CONFIG} are tables", "others")
    named = own.get(NAMED)
    weights = ((named,) if isinstance(named, str) and named else ()) + WEIGHTS
    pooling = {"global_pool": own["global_pool"]} if own.get("global_pool") else {}  # as timm reads it
    return Configured(where, architecture, {**pooling, **args}, weights, {"model_name": f"local-dir:{folder}"})


def weights_in(folder: Path, made: Configured) -> Path:
    """The file with the weights of a local folder: one of the usual names, or the only one of its kind.

    Raises:
        InputError: There is none, or there are several.
    """
    for name in made.weights:
        if (folder / name).is_file():
            return folder / name
    for ending in (".safetensors", ".pth", ".bin"):
        files = sorted(folder.glob(f"*{ending}"))
        if len(files) == 1:
            return files[0]
        if files:
            listed = ", ".join(file.name for file in files[:5])
            todo = "Rename the one that is meant."
            raise InputError(made.where, f"one of its files is {made.weights[0]}", listed, todo)
    raise InputError(made.where, f"the folder holds weights, such as {made.weights[0]}", "none")


def read_json(path: Path, where: str) -> dict[str, Any]:
    """The table of a JSON file of a backbone.

    Raises:
        InputError: From `where`: there is no such file, or it holds something else.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(where, f"the folder holds {path.name}", f"no such file in {path.parent}") from None
    except (OSError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0]
        raise InputError(where, f"its {path.name} is readable", f"{type(error).__name__}: {said}") from None
    if not isinstance(table, dict):
        raise InputError(where, f"its {path.name} holds a table", type(table).__name__)
    return table
