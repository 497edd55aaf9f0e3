"""A training at the end of an epoch, as a file from which any process goes on to the same end.

A safetensors file, so that nothing that is read can run: tuners and head, the optimizer's state, the states of the
generators of random numbers, and what was measured at rungs.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.loop import Training
from utuning_search.training.weights import is_whole, sealed

MODEL, TRAINING, STREAM, ABOUT = "model.", "training.", "stream.", "about"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands.

    Attributes:
        epoch: Of so many that it has trained.
        seconds: That it took, measuring included.
        measured: What was measured at its rungs by name, by epoch.
        content: All of it, as the bytes of a file.
    """

    epoch: int
    seconds: float
    measured: Mapping[int, Mapping[str, float]]
    content: bytes

    @classmethod
    def of(
        cls,
        epoch: int,
        model: TunedModel,
        training: Training,
        measured: Mapping[int, Mapping[str, float]],
        spent: float,
    ) -> "Checkpoint":
        """Of a training that has just ended an epoch."""
        about = {"versions": _versions(), "epoch": epoch, "seconds": spent, "measured": measured}
        tensors = {f"{MODEL}{name}": tensor for name, tensor in model.tuner_state_dict().items()}
        tensors |= {f"{TRAINING}{name}": tensor for name, tensor in training.state().items()}
        tensors |= {f"{STREAM}{name}": stream.get_state() for name, stream in _streams(model)}
        tensors[ABOUT] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
        kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        return cls(epoch, spent, dict(measured), safetensors.torch.save(sealed(kept)))

    @classmethod
    def read(cls, content: bytes) -> "Checkpoint | None":
        """Of the bytes of a file; None where it is damaged, or was written with other versions."""
        try:
            tensors = safetensors.torch.load(content)
            about: dict[str, Any] = json.loads(tensors[ABOUT].numpy().tobytes())
            if about["versions"] != _versions() or not is_whole(tensors):
                return None
            measured = {int(epoch): dict(values) for epoch, values in about["measured"].items()}
            return cls(int(about["epoch"]), float(about["seconds"]), measured, content)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def restore(self, model: TunedModel, training: Training) -> None:
        """Put a fresh model of the same design and its training where these stood."""
        tensors = safetensors.torch.load(self.content)

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        model.load_tuner_state_dict(part(MODEL))
        training.load_state(part(TRAINING))
        for name, stream in _streams(model):
            stream.set_state(tensors[f"{STREAM}{name}"])


def _streams(model: TunedModel) -> Iterator[tuple[str, torch.Generator]]:
    """The random streams of tuners by name: of their modules, the attributes that are generators."""
    for name, module in model.tuners.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Generator):
                yield f"{name}.{attribute}", value


def _versions() -> dict[str, str]:
    """What a file is written with: others might name or compute something differently."""
    return {name: version(name) for name in ("utuning-search", "torch")}
