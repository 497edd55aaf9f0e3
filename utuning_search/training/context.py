"""A task, loaded: its frozen backbone, how images are prepared, and the images a search sees."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from utuning_search.backbones import loading, opened
from utuning_search.backbones.names import parse_name
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.data.decoded import SearchData, Store
from utuning_search.data.decoding import Decoding
from utuning_search.data.loading import load_search_data
from utuning_search.data.outliers import task_outliers
from utuning_search.data.places import find_backbone, find_data
from utuning_search.data.spec import STORED
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.tuners import BackboneShape


def warn(line: str) -> None:
    """What is done with a line unless told otherwise."""
    warnings.warn(line, stacklevel=3)


@dataclass(frozen=True)
class SearchContext:
    """A task, loaded: what designs are attached to, trained and compared on.

    `data_path` is where its images are; `outliers` are unknown images, uint8 (images, channels, size, size), or None.
    """

    backbone: nn.Module
    preprocessing: Preprocessing
    shape: BackboneShape
    data: SearchData
    data_path: Path | None = None
    outliers: Tensor | None = None


def load_backbone(task: Task, data_dir: str | None) -> tuple[nn.Module, Preprocessing]:
    """A task's frozen backbone on the CPU, and how its images are prepared."""
    spec, name = task.backbone, backbone_name(task, data_dir)
    with torch.random.fork_rng(devices=[]):  # timm draws fresh weights before it loads the real ones
        model = loading.load_backbone(name, checkpoint_of(task, data_dir), spec.image_size or None)
    return model, loading.preprocessing_of(model, name, spec.crop)


def backbone_digest(task: Task, data_dir: str | None) -> str:
    """Of the weights of a task's backbone, as they are read."""
    size = task.backbone.image_size or None
    with torch.random.fork_rng(devices=[]):
        return loading.load_digested(backbone_name(task, data_dir), checkpoint_of(task, data_dir), size)[1]


def backbone_name(task: Task, data_dir: str | None) -> str:
    """The name that a task's backbone is loaded by: of a repository its commit, of a folder where it lies."""
    return find_backbone(task.backbone, Runtime(data_dir=data_dir).data_path, "task backbone, name")


def pinned(task: Task, say: Callable[[str], object] = warn) -> Task:
    """The task with the commit of its backbone's repository, if it is in one: it then trains on the same for ever.

    Args:
        task: Whose backbone may have its commit already; then it stays as it is.
        say: Called with one line where the hub could not be asked, so that it is the commit that the cache has.

    Raises:
        InputError, BackboneError: There is no such repository, or the hub cannot be asked and the cache has none.
    """
    spec, note = opened.pinned(task.backbone)
    if note:
        say(note)
    return replace(task, backbone=spec)


def checkpoint_of(task: Task, data_dir: str | None) -> Path | None:
    """The local file with the weights of a task's backbone; None where they are not in one."""
    spec, path = task.backbone, Runtime(data_dir=data_dir).data_path
    return find_data(spec.checkpoint, path, "task backbone, checkpoint") if spec.checkpoint else None


def weights_place(task: Task, data_dir: str | None) -> Path | None:
    """What `load_tuned` is given as `checkpoint` where the backbone is local: its file, or its folder."""
    if task.backbone.is_folder and not task.backbone.checkpoint:
        return Path(parse_name(backbone_name(task, data_dir)).place)
    return checkpoint_of(task, data_dir)


def load_search(
    task: Task,
    data_dir: str | None,
    images: Path | None = None,
    store: Store | None = None,
    home: Path | None = None,
) -> SearchContext:
    """Everything of a task that a search needs, on the CPU.

    Args:
        task: To load.
        data_dir: Where its relative paths start.
        images: Already decoded ones, see SearchData.save.
        store: Where images are decoded to and saved; None for memory.
        home: The study's folder, which may hold the images.
    """
    model, preprocessing = load_backbone(task, data_dir)
    if images is None:
        data = load_search_data(task.data, preprocessing, data_path(task, data_dir, home), store)
    else:
        data = SearchData.restore(images)
    outliers = outliers_of(task, preprocessing, data.decoding, data_dir)
    if images is None:
        if outliers is not None:  # a study keeps these too
            content = f"{data.digest} {blake2b(outliers.contiguous().numpy().data).hexdigest()}"
            data = replace(data, digest=sha256(content.encode()).hexdigest()[:12])
        if store is not None:
            data.save(store.folder)
    place = data_path(task, data_dir, home)
    return SearchContext(model, preprocessing, adapter_of(model).shape, data, place, outliers)


def outliers_of(
    task: Task, preprocessing: Preprocessing, decoding: Decoding, data_dir: str | None, *, finals: bool = False
) -> Tensor | None:
    """Unknown images of a task, those of its search or of its finals; see `outliers.task_outliers`."""
    path = Runtime(data_dir=data_dir).data_path
    return task_outliers(task.data, preprocessing, decoding, path, finals=finals)


def data_path(task: Task, data_dir: str | None, home: Path | None) -> Path | None:
    """Where a task's images are looked up: those that were given from Python lie in the study's folder."""
    return home if task.data.source == STORED else Runtime(data_dir=data_dir).data_path
