"""Tasks: a backbone, data, how the data are split, and the training recipe; written as TOML."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from utuning_search.common import bundled as resources
from utuning_search.common.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.common.tables import build

DATA_DIR = "UTUNING_DATA_DIR"
SOURCES = ("digits", "imagefolder", "torchvision")
DATASETS = (
    "CIFAR10",
    "CIFAR100",
    "DTD",
    "EuroSAT",
    "FashionMNIST",
    "Flowers102",
    "OxfordIIITPet",
    "StanfordCars",
    "SVHN",
)
FOLDER_KEYS = ("held_out", "train_folder", "test_folder", "scarce")
LATER = ("dataset", "limit", *FOLDER_KEYS)  # keys of a task's data that older studies have not
SEEDS = 1 << 32  # as many as numpy's generators take


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone.

    Attributes:
        name: `glyph_vit`, or a timm model.
        checkpoint: Local file with its weights, relative to the data directory; empty for the hub's.
        image_size: Pixels; 0 takes the model's own.
    """

    name: str
    checkpoint: str = ""
    image_size: int = 0

    def __post_init__(self) -> None:
        if self.image_size < 0:
            raise InputError("image_size", "image_size is in pixels, or 0 for the model's own", self.image_size)


@dataclass(frozen=True)
class DataSpec:
    """Which images, and how they are split. The test images are no part of any split here.

    Attributes:
        source: "digits" (of scikit-learn), "imagefolder" (root/train/<class>/*, root/test/<class>/*), or
            "torchvision" (one of its datasets, from files that are there).
        root: The image folder, or where torchvision looks for its files; relative to the data directory.
        dataset: The name of torchvision's class.
        proxy: Training images that trials see.
        validation: Images that trials are compared on.
        seed: Of the stratified splits.
        views: Fixed views of each training image: 1 is the image, 2 adds its mirror image.
        limit: Training images the task has at all, finals included: a stratified sample by seed; 0 takes everything.
        held_out: Share of each class that an imagefolder without split folders, root/<class>/**, keeps for the test;
            0 where root/train and root/test are there.
        train_folder, test_folder: What those two are called.
        scarce: Whether classes of one image and folders of none are taken as they are, instead of refused. Every
            class is then split by itself: of one image it is trained on only, of two there is none for the test.
    """

    source: str
    root: str = ""
    proxy: int = 800
    validation: int = 400
    seed: int = 0
    views: int = 1
    dataset: str = ""
    limit: int = 0
    held_out: float = 0.0
    train_folder: str = "train"
    test_folder: str = "test"
    scarce: bool = False

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InputError("source", f"source is one of {', '.join(SOURCES)}", repr(self.source))
        if (self.source == "imagefolder") != bool(self.root) and self.source != "torchvision":
            raise InputError("root", "an imagefolder has a root, and digits have none", repr(self.root))
        if (self.source == "torchvision") != bool(self.dataset):
            raise InputError("dataset", "torchvision, and nothing else, has a dataset", repr(self.dataset))
        if self.dataset and self.dataset not in DATASETS:
            advice = nearest(self.dataset, DATASETS)
            raise InputError("dataset", "dataset is the name of one of torchvision's", repr(self.dataset), advice)
        if self.limit and self.limit < self.proxy + self.validation:
            rule = f"limit is 0, or at least proxy + validation, {self.proxy + self.validation}"
            raise InputError("limit", rule, self.limit)
        if not 0 <= self.held_out < 1:
            raise InputError("held_out", "held_out is a share, at least 0 and below 1", self.held_out)
        if self.source != "imagefolder":
            for name in FOLDER_KEYS:
                if getattr(self, name) != _DEFAULTS[name]:
                    raise InputError(name, "only an imagefolder has it", repr(getattr(self, name)))
        if self.views not in (1, 2):
            raise InputError("views", "views is 1 or 2", self.views)
        for name in ("proxy", "validation"):
            if getattr(self, name) < 2:
                raise InputError(name, "a split has at least 2 images", getattr(self, name))
        if not 0 <= self.seed < SEEDS:
            raise InputError("seed", f"seed is from 0 to {SEEDS - 1}", self.seed)


_DEFAULTS = {f.name: f.default for f in fields(DataSpec)}


@dataclass(frozen=True)
class Recipe:
    """How a trial is trained.

    Attributes:
        epochs: Passes over the proxy split.
        batch_size: Images a step.
        learning_rate: Peak, of AdamW; cosine decay to zero over all epochs.
        weight_decay: Of matrices; vectors and scalars have none.
        warmup_epochs: Linear warm-up.
        label_smoothing: Of the cross-entropy, in [0, 1).
        rungs: Epochs after which a trial is measured and may be pruned; the last epoch is always measured.
    """

    epochs: int = 16
    batch_size: int = 32
    learning_rate: float = 0.005
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    rungs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        positive = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise InputError(name, f"{name} is above 0", value)
        if list(self.rungs) != sorted(set(self.rungs)) or (
            self.rungs and not 0 < self.rungs[0] <= self.rungs[-1] < self.epochs
        ):
            raise InputError("rungs", f"rungs ascend within 1 to {self.epochs - 1}", list(self.rungs))
        if not 0 <= self.label_smoothing < 1:
            raise InputError("label_smoothing", "label_smoothing is in [0, 1)", self.label_smoothing)
        if not 0 <= self.warmup_epochs < self.epochs:
            rule = f"warmup_epochs is at least 0 and below epochs, {self.epochs}"
            raise InputError("warmup_epochs", rule, self.warmup_epochs)
        if not 0 <= self.weight_decay < math.inf:
            raise InputError("weight_decay", "weight_decay is not negative", self.weight_decay)


@dataclass(frozen=True)
class Task:
    """What designs are trained on and how; `Task.load("digits")` is the embedded one."""

    name: str
    backbone: BackboneSpec
    data: DataSpec
    recipe: Recipe = field(default_factory=Recipe)
    description: str = ""

    @classmethod
    def load(cls, name: str) -> "Task":
        """A bundled task by name, or one's own from a path that ends in .toml."""
        path = resources.find("task", name)
        return cls.from_dict(resources.read_toml(path), str(path) if name.endswith(".toml") else f"task '{name}'")

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "task") -> "Task":
        refuse_unknown_keys(table, ("name", "description", "backbone", "data", "training"), where)
        name = table.get("name")
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(where, "name is a word of letters, digits, - and _", repr(name))
        return cls(
            name=name,
            backbone=build(BackboneSpec, table.get("backbone", {}), f"{where}, backbone"),
            data=build(DataSpec, table.get("data", {}), f"{where}, data"),
            recipe=build(Recipe, table.get("training", {}), f"{where}, training"),
            description=str(table.get("description", "")),
        )

    def with_backbone(
        self, name: str | None = None, checkpoint: str | None = None, image_size: int | None = None
    ) -> "Task":
        """This task on another backbone; what is None stays, but another model does not keep the checkpoint."""
        spec = self.backbone
        if name is not None and name != spec.name:
            spec = replace(spec, name=name, checkpoint="")
        if checkpoint is not None:
            spec = replace(spec, checkpoint=checkpoint)
        if image_size is not None:
            spec = replace(spec, image_size=image_size)
        return replace(self, backbone=spec)

    def to_dict(self) -> dict[str, Any]:
        tables = {"backbone": asdict(self.backbone), "data": asdict(self.data), "training": asdict(self.recipe)}
        for name in LATER:  # left out where they say nothing, as in studies made before there were any
            if tables["data"][name] == _DEFAULTS[name]:
                del tables["data"][name]
        tables["training"]["rungs"] = list(self.recipe.rungs)
        return {"name": self.name, "description": self.description, **tables}


def searched(data_dir: Path | None) -> list[Path]:
    """Where relative data paths start: the data directory, $UTUNING_DATA_DIR, the working directory."""
    return [Path(folder) for folder in (data_dir, os.environ.get(DATA_DIR), Path.cwd()) if folder]


def look_up(path: str, data_dir: Path | None) -> Path | None:
    """A data file or folder, absolute or in the first of `searched` that has it; None if none does."""
    candidates = (folder / path for folder in searched(data_dir))  # an absolute path stands for itself
    return next((candidate for candidate in candidates if candidate.exists()), None)


def find_data(path: str, data_dir: Path | None, where: str) -> Path:
    """As `look_up`, for what has to be there."""
    found = look_up(path, data_dir)
    if found is not None:
        return found
    todo, folders = f"Give --data-dir, or set {DATA_DIR}.", ", ".join(map(str, searched(data_dir)))
    raise InputError(where, "it exists in the data directory", f"'{path}' in none of {folders}", todo)
