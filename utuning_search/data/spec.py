"""Which images a task names, and how they are split."""

from dataclasses import dataclass, fields
from typing import Any

from utuning_search.common.errors import InputError, nearest
from utuning_search.common.wording import listed

STORED = "stored"
OWN = ("imagefolder", "csv", "parquet", STORED)  # images that a user brings
SOURCES = ("digits", "torchvision", *OWN)
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
OWN_KEYS, FOLDER_KEYS = ("held_out", "scarce"), ("train_folder", "test_folder")
SHOTS = (2, 4, 8, 16)  # a class, as few-shot benchmarks have them (arXiv 2311.12076)
LATER = (
    "dataset",
    "limit",
    "shots",
    "ood",
    *OWN_KEYS,
    *FOLDER_KEYS,
)  # keys of a task's data that older studies have not
SEEDS = 1 << 32  # as many as numpy's generators take


@dataclass(frozen=True)
class DataSpec:
    """Which images, and how they are split. The test images are no part of any split here.

    Attributes:
        source: "digits" (of scikit-learn), "imagefolder" (root/train/<class>/*, root/test/<class>/*), "csv" (a file
            with the columns path, label and perhaps split), "parquet" (files with the columns image and label),
            "stored" (given from Python, see `own_data`; root is below the study's folder), or "torchvision" (one of
            its datasets, from files that are there).
        root: The image folder, the CSV, the Parquet file, a folder of these or a pattern; or where torchvision looks
            for its files; relative to the data directory.
        dataset: The name of torchvision's class.
        proxy: Training images that trials see.
        validation: Images that trials are compared on.
        seed: Of the stratified splits.
        views: Fixed views of each training image: 1 is the image, 2 adds its mirror image.
        limit: Training images the task has at all, finals included: a stratified sample by seed; 0 takes everything.
        held_out: Share of each class that is kept for the test: of an imagefolder without split folders,
            root/<class>/**, or of a table without splits; 0 where images lie apart for it.
        train_folder, test_folder: What those two are called.
        scarce: Whether classes of one image and folders of none are taken as they are, instead of refused. Every
            class is then split by itself: of one image it is trained on only, of two there is none for the test.
        shots: Training images of each class, 2, 4, 8 or 16, in the search and in finals, which train on the same ones;
            stands in for `proxy`. Validation images are drawn from the others. 0 is no few-shot task.
        ood: A folder of images of other kinds, relative to the data directory, or "letters" (see `outliers.py`), for
            the objective ood_auroc: the search is shown every other one, its finals the rest. Empty for none.
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
    shots: int = 0
    ood: str = ""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InputError("source", f"source is one of {', '.join(SOURCES)}", repr(self.source))
        if (self.source in OWN) != bool(self.root) and self.source != "torchvision":
            raise InputError("root", f"{listed(OWN)} have a root, and digits have none", repr(self.root))
        if (self.source == "torchvision") != bool(self.dataset):
            raise InputError("dataset", "torchvision, and nothing else, has a dataset", repr(self.dataset))
        if self.dataset and self.dataset not in DATASETS:
            advice = nearest(self.dataset, DATASETS)
            raise InputError("dataset", "dataset is the name of one of torchvision's", repr(self.dataset), advice)
        if self.shots not in (0, *SHOTS):
            raise InputError("shots", f"shots is one of {', '.join(map(str, SHOTS))}, or 0 for none", self.shots)
        for name in ("proxy", "limit") if self.shots else ():
            if getattr(self, name) != _DEFAULTS[name]:
                rule = f"shots says how many images are trained on, so that there is no {name}"
                raise InputError(name, rule, getattr(self, name), f"Leave out {name}, or shots.")
        if self.limit and self.limit < self.proxy + self.validation:
            rule = f"limit is 0, or at least proxy + validation, {self.proxy + self.validation}"
            raise InputError("limit", rule, self.limit)
        if not 0 <= self.held_out < 1:
            raise InputError("held_out", "held_out is a share, at least 0 and below 1", self.held_out)
        for name in (*OWN_KEYS, *FOLDER_KEYS):
            sources = OWN if name in OWN_KEYS else OWN[:1]
            if self.source not in sources and getattr(self, name) != _DEFAULTS[name]:
                raise InputError(name, f"only {listed(sources)} has it", repr(getattr(self, name)))
        if self.views not in (1, 2):
            raise InputError("views", "views is 1 or 2", self.views)
        for name in ("proxy", "validation"):
            if getattr(self, name) < 2:
                raise InputError(name, "a split has at least 2 images", getattr(self, name))
        if not 0 <= self.seed < SEEDS:
            raise InputError("seed", f"seed is from 0 to {SEEDS - 1}", self.seed)


_DEFAULTS = {f.name: f.default for f in fields(DataSpec)}


def data_table(spec: DataSpec) -> dict[str, Any]:
    """The TOML table of a spec; what came later is left out where it says nothing, as in older studies."""
    table = {f.name: getattr(spec, f.name) for f in fields(spec)}
    silent = ("proxy",) if spec.shots else ()
    return {n: v for n, v in table.items() if n not in silent and (n not in LATER or v != _DEFAULTS[n])}
