"""What a tuner says of pictures: classes and how sure it is of them, batch by batch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import InputError
from utuning_search.data.decoding import Decoder, Decoding
from utuning_search.data.pictures import Picture, Pictures, each_of, read_picture, stacked, unreadable
from utuning_search.data.pixels import UnreadableError
from utuning_search.training.loop import predict as logits_of

BATCH = 64  # pictures; their pixels and activations are in memory at once, those of other batches are not
Skipped = Callable[[Picture, str], object]  # of a picture that cannot be read, and why


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a tuner says of some pictures.

    Attributes:
        probabilities: Softmax of the logits, float32 (images, classes), on the CPU. How often it is right where it is
            so sure, `finals/*_calibration.csv` of a confirmed study says.
        classes: Their names.
        rows: Where each image stands among the pictures that were given.
        least: Below which probability an image is unknown, as its export says; 0 where it keeps no threshold.
    """

    probabilities: Tensor
    classes: tuple[str, ...]
    rows: tuple[int, ...]
    least: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        """Number of the most likely class, int64 (images,)."""
        return self.probabilities.argmax(dim=1)

    @property
    def known(self) -> Tensor:
        """Whether the tuner is sure enough that an image is of one of its classes, bool (images,)."""
        return self.probabilities.amax(dim=1).double() >= self.least if len(self) else torch.ones(0, dtype=torch.bool)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the most likely class, one an image."""
        return tuple(self.classes[label] for label in self.labels.tolist())

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Of each image the names and probabilities of so many classes at most, the most likely first."""
        shares, labels = self.probabilities.sort(dim=1, descending=True, stable=True)
        return [
            [(self.classes[i], share) for i, share in zip(own[:count], sure[:count], strict=True)]
            for own, sure in zip(labels.tolist(), shares.tolist(), strict=True)
        ]


def predict_each(
    model: nn.Module,
    pictures: Pictures,
    preprocessing: Preprocessing,
    decoding: Decoding,
    classes: tuple[str, ...],
    *,
    batch_size: int = BATCH,
    skipped: Skipped | None = None,
    least: float = 0.0,
    noted: Callable[[str], object] | None = None,
) -> Iterator[Predictions]:
    """Predictions of one batch after the other; no picture is read before its batch is asked for.

    Args:
        model: Normalised images (batch, channels, size, size) to logits (batch, classes).
        pictures: See `pictures.read_picture`; may be endless.
        preprocessing, decoding: How they are read.
        classes: Names by index of a logit.
        batch_size: At a time; on a GPU without room for so many it is halved.
        skipped: Called with each picture that cannot be read, which is then left out; None refuses it.
        least: Probability below which an image is unknown.
        noted: Called in the end with a line for each kind of pictures that were read in a way that no training picture
            was, such as 16-bit ones where all of those had 8.

    Raises:
        InputError: A number out of range, or a picture that cannot be read or is none.
    """
    if batch_size < 1:
        raise InputError("batch_size", "it is at least 1", batch_size)
    parameter, decoder = next(model.parameters()), Decoder(decoding)
    images: list[Tensor] = []
    rows: list[int] = []

    def said() -> Predictions:
        inputs = preprocessing.normalise(stacked(images, preprocessing).to(parameter.device)).to(parameter.dtype)
        was = model.training
        model.eval()
        try:
            logits = logits_of(model, inputs)
        finally:
            model.train(was)
        return Predictions(logits.softmax(dim=1).cpu(), classes, tuple(rows), least)

    for row, picture in enumerate(each_of(pictures)):
        try:
            image = read_picture(picture, preprocessing, decoder, f"picture {row}")
        except UnreadableError as error:
            if skipped is None:
                raise unreadable(picture, row, error) from None
            skipped(picture, str(error))
            continue
        images.append(image)
        rows.append(row)
        if len(images) == batch_size:
            yield said()
            images, rows = [], []
    if images:
        yield said()
    if noted is not None:
        for note in decoder.notes(decoding):
            noted(note)


def joined(parts: Iterable[Predictions], classes: tuple[str, ...], least: float = 0.0) -> Predictions:
    """Predictions of several batches as one."""
    found = list(parts)
    shares = torch.cat([p.probabilities for p in found]) if found else torch.empty(0, len(classes))
    return Predictions(shares, classes, tuple(row for p in found for row in p.rows), least)
