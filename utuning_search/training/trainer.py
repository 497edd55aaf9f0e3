"""What trains designs on a frozen backbone: the base of proxy training and full training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneBlock
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.quick_block import quick, tokens_read
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.data.decoded import Split
from utuning_search.designs.design import Design
from utuning_search.training.latency import latency_ms
from utuning_search.training.loop import Examples, Forward, Training, predict
from utuning_search.training.measurement import Measure, Measurement
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime
from utuning_search.training.transfer import to_device
from utuning_search.training.weights import pack


class Trainer(ABC):
    """A frozen backbone on a device, which all designs share, and what is done with each of them.

    Args:
        backbone: Moved to the runtime's device.
        preprocessing: Of the images.
        num_classes: Width of the head.
        runtime: Where and in which precision.
        measures: What is measured besides accuracy.
    """

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        num_classes: int,
        runtime: Runtime,
        measures: Sequence[Measure] = (),
    ) -> None:
        self.runtime = runtime
        self._measures = [m for m in measures if m.name != "accuracy"]
        self._backbone, self._preprocessing = settle(backbone, runtime.device), preprocessing
        self._num_classes = num_classes
        self._quick: dict[int | None, Sequence[BackboneBlock]] = {}

    @abstractmethod
    def _checked_images(self) -> Tensor:
        """uint8 images (16, channels, height, width) whose logits are kept with the weights."""

    def _examples(self, split: Split) -> Examples:
        """A split on the device. Images stay uint8, a quarter of the memory, and are normalised a batch at a time."""
        return Examples(to_device(split.images, self.runtime.device), to_device(split.labels, self.runtime.device))

    def _fresh(self, design: Design, seed: int) -> TunedModel:
        """A tuned model whose first weights are a function of `seed`, ready to be trained."""
        with torch.random.fork_rng(devices=[]):
            # Inside the fork, and on the CPU only: the caller's random state is not touched on any device.
            torch.default_generator.manual_seed(seed)
            model = TunedModel(self._backbone, design, self._num_classes)
        # The backbone stays in evaluation mode: frozen operations are functions, which caches rely on.
        model.to(self.runtime.device).train()
        model.backbone.eval()
        return model

    def _training(
        self,
        model: TunedModel,
        forward: Forward,
        views: Sequence[Examples],
        recipe: Recipe,
        seed: int,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> Training:
        """The training of a fresh model, which has not begun."""
        return Training(
            forward,
            model.parameters_trained(),
            views,
            recipe,
            learning_rate=model.design.learning_rate or recipe.learning_rate,
            seed=seed,
            autocast=self.runtime.autocast(),
            augment=augment,
        )

    def _stand_ins(self, read: int | None) -> Sequence[BackboneBlock] | None:
        """Blocks to train with, see `quick_block`; None where the backbone's own are the best there are."""
        if self.runtime.device != "cpu":
            return None
        if read not in self._quick:
            own = adapter_of(self._backbone).blocks
            whole = self._quick.setdefault(None, quick(own))
            # All but the last are the same ones, and so are their copies of weights.
            self._quick[read] = [*whole[:-1], *quick(own[-1:], read)]
        return self._quick[read]

    def _read(self, model: TunedModel) -> int | None:
        """How many of the first tokens after the last block are computed in training; None for all."""
        return tokens_read(model.adapter, model.design) if self.runtime.device == "cpu" else None

    def _whole(self, model: TunedModel) -> Forward:
        """The model as a function of uint8 images."""
        return lambda images: model(self._preprocessing.normalise(images))

    def _others(
        self,
        finished: TunedModel | None,
        logits: Tensor,
        labels: Tensor,
        outliers: Callable[[], Tensor] | None = None,
    ) -> dict[str, float]:
        """What is measured besides accuracy, by name; without a finished model what is measured at rungs.

        Args:
            finished: The model after its last epoch.
            logits, labels: Of the images it is measured on.
            outliers: Computes logits of unknown images, where there are any.
        """

        def latency() -> float:
            assert finished is not None, "a measure of finished trainings is not asked for at rungs"
            return latency_ms(finished, self._preprocessing.normalise(self._checked_images()))

        measured = Measurement(logits, labels, latency, outliers)
        return {m.name: m.measure(measured) for m in self._measures if finished is not None or m.at_rungs}

    def _finished(self, model: TunedModel, images: Tensor) -> tuple[Tensor, bytes]:
        """Logits (images, classes) of uint8 images, and packed weights, after the last epoch.

        Whole and in fp32: what an export will predict for a user, image by image.
        """
        model.eval()
        return predict(self._whole(model), images), self._packed(model)

    def _packed(self, model: TunedModel) -> bytes:
        """Packed weights of a model in evaluation mode."""
        return pack(model, self._preprocessing.normalise(self._checked_images()))


def settle(backbone: nn.Module, device: str) -> nn.Module:
    """The backbone itself, moved to a device and fast there."""
    backbone.to(device)
    if device == "cpu":
        adapter_of(backbone).unfuse_attention()
    return backbone
