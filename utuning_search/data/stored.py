"""Images that were given from Python once and lie in a study's folder since, decoded; see `given.py`."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError
from utuning_search.data.copies import fingerprint
from utuning_search.data.decoded import Split, restore_split
from utuning_search.data.decoding import Decoder
from utuning_search.data.own import Own
from utuning_search.data.places import find_data
from utuning_search.data.source import Part
from utuning_search.data.spec import DataSpec

WHOLE = "the images are as they were written"


class Stored(Own):
    """They were decoded for one backbone's size, and nothing else of them is kept."""

    def __init__(self, spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None) -> None:
        super().__init__(spec, preprocessing, data_dir)
        self._folder = find_data(spec.root, data_dir, "images given")
        self._split("train")
        self.decoder = Decoder(self._about["decoding"])

    @property
    def where(self) -> str:
        return f"images {self._folder}"

    @property
    def classes(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self._about["classes"]
        return found

    def notes(self) -> Iterator[str]:
        return iter(self._about["notes"])

    def equal(self, *parts: Part) -> list[str]:
        return [fingerprint(part.read(i)) for part in parts for i in range(len(part.labels))]

    def _bytes(self, part: Part) -> int:
        size = self.preprocessing.image_size
        return len(part.labels) * self.preprocessing.channels * size * size

    def _untested(self) -> Part:
        return self._part("train")

    def _tested(self) -> Part:
        return self._part("test")

    def _part(self, name: str) -> Part:
        split = self._split(name)
        if not len(split.labels):
            raise DataError(self.where, f"there are images to {name} on", "none")
        return Part(split.labels.numpy(), lambda i: split.images[i], split.names, split.rows)

    def _split(self, name: str) -> Split:
        size, channels = self.preprocessing.image_size, self.preprocessing.channels
        try:
            split, self._found = restore_split(self._folder, name)
        except Exception as error:  # of a damaged file, as safetensors, numpy or json say it
            got = f"{type(error).__name__}: {error}"
            raise DataError(self.where, WHOLE, got, "Put them back.") from None
        count, most = len(split.images), len(self._found["classes"])
        if not len(split.labels) == len(split.rows) == len(split.names) == count:
            counts = f"{count} images, {len(split.labels)} labels, {len(split.rows)} rows, {len(split.names)} names"
            raise DataError(self.where, WHOLE, counts, "Put them back.")
        if split.labels.dtype != torch.int64 or not ((split.labels >= 0) & (split.labels < most)).all():
            raise DataError(self.where, WHOLE, f"labels that are no numbers below {most}", "Put them back.")
        shape = tuple(split.images.shape[1:])
        if len(split.labels) and shape != (channels, size, size):
            rule = f"they were decoded for this backbone, {channels} x {size} x {size}"
            raise DataError(self.where, rule, " x ".join(map(str, shape)), "Start a study with them on it.")
        return split

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self._found
