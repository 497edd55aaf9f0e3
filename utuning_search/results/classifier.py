"""An exported tuner as a module: pictures in, classes out."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.data.decoding import Decoding
from utuning_search.data.pictures import Pictures, read_pictures, wrong_tensor
from utuning_search.results.predict import BATCH, Predictions, Skipped, joined, predict_each
from utuning_search.results.threshold import Threshold


class TunedClassifier(nn.Module):
    """An exported design on its backbone: what `load_tuned` returns.

    Attributes:
        classes: Names by index of a logit.
        preprocessing: Size, channels, mean and std of the input.
        design: What was tuned.
        decoding: How the pictures that it was trained on were read.
        threshold: Below which probability an image is unknown; None where the export keeps none.
    """

    def __init__(
        self,
        model: TunedModel,
        preprocessing: Preprocessing,
        classes: tuple[str, ...],
        decoding: Decoding = Decoding(),
        threshold: Threshold | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.preprocessing, self.classes, self.design = preprocessing, classes, model.design
        self.decoding, self.threshold = decoding, threshold

    def predict(self, images: Pictures, *, batch_size: int = BATCH) -> Predictions:
        """What the tuner says of pictures: labels, probabilities and names.

        Files are decoded and resized as in training, by what the export says of it, `batch_size` at a time; what was
        predicted in training mode would be random, so it is done in evaluation mode whatever the module's own.

        Args:
            images: One or several of: image files, pictures of Pillow's, arrays, tensors; see `preprocess`. A generator
                is read as it goes.
            batch_size: Pictures at a time.

        Raises:
            InputError: A picture cannot be read, or is none.
        """
        return joined(self.predict_each(images, batch_size=batch_size), self.classes, self._least)

    def predict_each(
        self,
        images: Pictures,
        *,
        batch_size: int = BATCH,
        skipped: Skipped | None = None,
        noted: Callable[[str], object] | None = None,
    ) -> Iterator[Predictions]:
        """As `predict`, a batch after the other, so that a large folder is never in memory at once.

        Args:
            images, batch_size: As of `predict`.
            skipped: Called with each picture that cannot be read and why; it is left out. None refuses it.
            noted: Called in the end with a line for each kind of pictures, such as 16-bit ones, that were read in a way
                that no training picture was.
        """
        return predict_each(
            self,
            images,
            self.preprocessing,
            self.decoding,
            self.classes,
            batch_size=batch_size,
            skipped=skipped,
            least=self._least,
            noted=noted,
        )

    @property
    def _least(self) -> float:
        return 0.0 if self.threshold is None else self.threshold.probability

    def preprocess(self, images: Pictures) -> Tensor:
        """Pictures to what `forward` takes: normalised float32 (batch, channels, size, size), on the tuner's device.

        Args:
            images: Image files, pictures of Pillow's, or arrays as Pillow makes pictures of them, which are read as in
                training: turned upright as their EXIF orientation says, transparent ones put on the same ground,
                samples of more than 8 bits scaled by the same range, resized and cropped. Or decoded ones: tensors of
                uint8, (batch, channels, height, width) or (channels, height, width), which are resized and cropped
                unless they are of the backbone's size.

        Raises:
            InputError: A file cannot be read, or an array or a tensor is no picture.
        """
        size, channels = self.preprocessing.image_size, self.preprocessing.channels
        if isinstance(images, Tensor) and images.shape[1:] == (channels, size, size):
            if images.dtype != torch.uint8:
                raise wrong_tensor(images, self.preprocessing)
            read = images
        else:
            read = read_pictures(images, self.preprocessing, self.decoding)
        return self.preprocessing.normalise(read.to(next(self.parameters()).device))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (batch, channels, size, size) to logits (batch, classes)."""
        logits: Tensor = self.model(images)
        return logits
