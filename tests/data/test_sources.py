"""Sources of images: torchvision's datasets from files that are there, finals, and the guard of the test split."""

import gzip
import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.bundled import bundled
from utuning_search.common.errors import DataError, InputError
from utuning_search.data import torchvision as hub
from utuning_search.data.decoded import FinalData, SearchData
from utuning_search.data.decoding import Decoder
from utuning_search.data.loading import SOURCES, load_final_data, load_search_data
from utuning_search.data.permit import TestPermit
from utuning_search.data.pixels import UnreadableError, openers, read_file
from utuning_search.data.source import Source
from utuning_search.data.spec import DATASETS as NAMES
from utuning_search.data.spec import DataSpec
from utuning_search.data.torchvision import DATASETS, Torchvision
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training.task import Task

COLOUR = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
GREY = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")
DIGITS = DataSpec("digits", proxy=200, validation=100)
FOLDER = DataSpec("imagefolder", "photos", proxy=12, validation=6)
FAKE = DataSpec("torchvision", dataset="CIFAR10", proxy=12, validation=6)
TABLE, SHARDS = (replace(FOLDER, source=s, root=r) for s, r in (("csv", "photos/all.csv"), ("parquet", "shards")))
SPECS = {"digits": DIGITS, "imagefolder": FOLDER, "torchvision": FAKE, "csv": TABLE, "parquet": SHARDS}
CLASSES = ("ant", "bee", "cat")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


class FakeCifar:
    """What torchvision's CIFAR10 offers, from files that a test writes: an array of colours and one of labels."""

    classes = CLASSES
    opened: list[bool]

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert not download
        self.opened.append(train)
        folder = Path(root) / "cifar-10-batches-py"
        if not (folder / "train.npy").exists():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        self.data = np.load(folder / f"{'train' if train else 'test'}.npy")
        self.targets = [i % len(CLASSES) for i in range(len(self.data))]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.data[i]), self.targets[i]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with an image folder and the files of a small dataset, of 30 training and 9 test images."""
    random = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 9)):
        pixels = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        (tmp_path / "cifar-10-batches-py").mkdir(exist_ok=True)
        np.save(tmp_path / "cifar-10-batches-py" / f"{split}.npy", pixels)
        for i, image in enumerate(pixels):
            folder = tmp_path / "photos" / split / CLASSES[i % len(CLASSES)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:02d}.png")
    files = sorted((tmp_path / "photos").rglob("*.png"))
    rows = [f"{p.relative_to(tmp_path / 'photos').as_posix()},{p.parts[-2]},{p.parts[-3]}" for p in files]
    (tmp_path / "photos" / "all.csv").write_text("\n".join(["path,label,split", *rows]))
    (tmp_path / "shards").mkdir()
    for split in ("train", "test"):
        mine = [p for p in files if p.parts[-3] == split]
        table = pa.table({"image": [p.read_bytes() for p in mine], "label": [p.parts[-2] for p in mine]})
        pq.write_table(table, tmp_path / "shards" / f"{split}.parquet")
    monkeypatch.setattr(FakeCifar, "opened", [], raising=False)
    monkeypatch.setitem(DATASETS, "CIFAR10", replace(DATASETS["CIFAR10"], make=FakeCifar))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UTUNING_DATA_DIR", raising=False)
    return tmp_path


def pixels_of(*splits: Any) -> Counter[bytes]:
    return Counter(image.numpy().tobytes() for split in splits for image in split.images)


def search(name: str, **changed: Any) -> SearchData:
    return load_search_data(replace(SPECS[name], **changed), GREY if name == "digits" else COLOUR)


def final(name: str, **changed: Any) -> FinalData:
    spec = replace(SPECS[name], **changed)
    return load_final_data(spec, GREY if name == "digits" else COLOUR, permit=TestPermit())


# The guard of the test split


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.usefixtures("place")
def test_a_source_gives_no_test_image_without_a_permit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the guard is removed: the reader that is refused here then answers."""
    touched = []
    source = SOURCES[name](SPECS[name], COLOUR, None)
    monkeypatch.setattr(type(source), "_test", lambda self: touched.append(self))
    for permit in (None, True, "please", TestPermit):
        with pytest.raises(DataError, match="with a TestPermit only"):
            source.test(permit)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(DataError, match="with a TestPermit only"):
        load_final_data(SPECS[name], COLOUR)
    assert touched == []
    source.test(TestPermit())
    assert touched == [source]


def test_every_source_is_guarded() -> None:
    assert set(SOURCES) == {*SPECS, "stored"}  # for that see test_given.py
    for source in SOURCES.values():
        assert issubclass(source, Source)
        assert source.test is Source.test


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.usefixtures("place")
def test_a_search_touches_no_test_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Source) -> None:
        raise AssertionError(f"the test split of {self.where} was touched")

    for source in SOURCES.values():
        monkeypatch.setattr(source, "_test", refuse)
    task = Task.load("digits")
    backbone = task.with_backbone("test_vit", image_size=32) if name != "digits" else task
    data = replace(SPECS[name], views=1)
    short = replace(task.recipe, epochs=2, rungs=(), batch_size=8)
    create = _without_weights(monkeypatch)
    study = create("smoke", replace(backbone, data=data, recipe=short), name="tried", seed=1)
    from_files = {p.name for p in study.folder.iterdir()}
    assert "splits.json" in from_files
    assert all(FakeCifar.opened), "the dataset's test files were opened"
    assert study.run(_one_trial(), workers=0)
    assert [r.state for r in study.trials()] == ["complete"]


def _one_trial() -> Any:
    return Budget(trials=1)


def _without_weights(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """Backbones of timm without their weights, which lie on a network."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **rest: create(name, **(rest | {"pretrained": False})))
    return Study.create


# Finals


@pytest.mark.parametrize(
    ("name", "train", "test"), [("digits", 1347, 450), ("imagefolder", 30, 9), ("torchvision", 30, 9)]
)
@pytest.mark.usefixtures("place")
def test_finals_train_on_all_that_is_not_for_the_test(name: str, train: int, test: int) -> None:
    found, searched = final(name), search(name)
    assert (len(found.train.images), len(found.test.images)) == (train, test)
    assert (len(found.train.labels), len(found.test.labels)) == (train, test)
    assert found.classes == searched.classes
    assert found.num_classes == searched.num_classes
    assert pixels_of(searched.proxy, searched.validation) <= pixels_of(found.train)
    if name != "digits":  # some of which are equal pixel by pixel
        assert not pixels_of(found.test) & pixels_of(found.train)
    assert not set(found.test.names) & set(found.train.names)
    assert final(name).digest == found.digest


@pytest.mark.usefixtures("place")
def test_finals_have_the_labels_of_the_search() -> None:
    for name in SPECS:
        found, searched = final(name), search(name)
        by_image = dict(
            zip((i.numpy().tobytes() for i in found.train.images), found.train.labels.tolist(), strict=True)
        )
        for image, label in zip(searched.proxy.images, searched.proxy.labels.tolist(), strict=True):
            assert by_image[image.numpy().tobytes()] == label


def test_the_final_digest_changes_with_a_test_image(place: Path) -> None:
    before, searched = final("imagefolder").digest, search("imagefolder").digest
    Image.new("RGB", (8, 8)).save(place / "photos" / "test" / "bee" / "01.png")
    assert final("imagefolder").digest != before
    assert search("imagefolder").digest == searched


def test_test_images_of_other_classes_are_refused(place: Path) -> None:
    (place / "photos" / "test" / "bee").rename(place / "photos" / "test" / "bees")
    with pytest.raises(DataError, match=r"train and test have the same classes; got only one has bee, bees"):
        final("imagefolder")


def test_a_missing_test_folder_is_refused(place: Path) -> None:
    shutil.rmtree(place / "photos" / "test")
    with pytest.raises(DataError, match=r"Lay images out as test/<class>/<image>"):
        final("imagefolder")


@pytest.mark.usefixtures("place")
def test_a_limit_holds_for_the_search_and_for_finals() -> None:
    limited = {"proxy": 9, "validation": 6, "limit": 15}
    found, searched = final("torchvision", **limited), search("torchvision", **limited)
    assert sorted(found.train.rows) == sorted(searched.proxy.rows + searched.validation.rows)
    assert found.train.labels.bincount().tolist() == [5, 5, 5]
    assert len(found.test.images) == 9
    assert search("torchvision", **{**limited, "limit": 18}).digest != searched.digest
    another = final("torchvision", **limited, seed=1)
    assert set(another.train.rows) != set(found.train.rows)


@pytest.mark.parametrize(("limit", "message"), [(17, "at least proxy"), (29, "stratified by class"), (31, "limit")])
@pytest.mark.usefixtures("place")
def test_a_limit_that_cannot_be_is_refused(limit: int, message: str) -> None:
    with pytest.raises((DataError, InputError), match=message):
        search("torchvision", limit=limit)


# Splits on paper


@pytest.mark.parametrize("name", SPECS)
def test_splits_name_the_images_that_were_drawn(name: str, place: Path) -> None:
    data = search(name)
    index = json.loads(json.dumps(data.index()))
    assert index["digest"] == data.digest
    assert index["classes"] == list(data.classes)
    for part, split in (("proxy", data.proxy), ("validation", data.validation)):
        assert len(index[part]["indices"]) == len(split.images) == len(set(index[part]["indices"]))
        if name == "imagefolder":
            read = [read_file(place / "photos" / path, COLOUR) for path in index[part]["names"]]
            assert torch.equal(torch.stack(read), split.images)
        if name == "torchvision":
            pixels = np.load(place / "cifar-10-batches-py" / "train.npy")[index[part]["indices"]]
            assert np.array_equal(pixels.transpose(0, 3, 1, 2), split.images.numpy())
        if name == "digits":
            assert load_digits().target[index[part]["indices"]].tolist() == split.labels.tolist()
    assert not set(index["proxy"]["indices"]) & set(index["validation"]["indices"])


@pytest.mark.usefixtures("place")
def test_decoded_images_come_back_from_their_files(tmp_path: Path) -> None:
    for name in SPECS:
        data = search(name)
        data.save(tmp_path / "kept" / name)
        again = SearchData.restore(tmp_path / "kept" / name)
        assert again.index() == data.index()
        assert again.digest == data.digest
        for mine, theirs in ((again.proxy, data.proxy), (again.validation, data.validation)):
            assert torch.equal(mine.images, theirs.images)
            assert torch.equal(mine.labels, theirs.labels)


@pytest.mark.usefixtures("warm_processes")
def test_a_study_decodes_each_image_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating and running it in one go, with workers in other processes: those decode none."""
    opened: Counter[str] = Counter()
    real = Image.open

    def counted(path: Any, *rest: Any, **more: Any) -> Image.Image:
        opened[str(path)] += 1
        return real(path, *rest, **more)

    monkeypatch.setattr(Image, "open", counted)
    task = Task.load("digits")
    task = replace(task, data=FOLDER, recipe=replace(task.recipe, epochs=2, rungs=(), batch_size=8))
    study = Study.create("smoke", task, name="once")
    (place / "photos").rename(place / "elsewhere")  # so that a worker that looked for it would not find it
    assert study.run(_one_trial(), workers=1)
    assert [r.state for r in study.trials()] == ["complete"]
    assert len(opened) == 18
    assert set(opened.values()) == {1}
    assert not [p.name for p in study.folder.iterdir() if "images" in p.name], "decoded images were left behind"


# torchvision


def test_each_dataset_of_a_task_has_an_entry() -> None:
    assert set(DATASETS) == set(NAMES)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_dataset_that_is_not_there_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UTUNING_DATA_DIR", raising=False)
    spec = DataSpec("torchvision", dataset=name)
    for empty in (False, True):  # nothing at all; what is expected is there, but without content
        if empty:
            target = tmp_path / DATASETS[name].place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"") if target.suffix else target.mkdir()
        with pytest.raises((InputError, DataError)) as caught:
            load_search_data(spec, COLOUR, tmp_path)
        message = str(caught.value)
        assert "\n" not in message
        if name != "EuroSAT" or not empty:
            assert message.startswith(f"task data, dataset {name}: its files lie at {DATASETS[name].place}")
            assert f'torchvision.datasets.{name}("DIR", download=True)' in message
            assert str(tmp_path) in message
    assert not list(tmp_path.rglob("*.tar*")), "something was downloaded"


def test_a_dataset_may_lie_below_a_root(place: Path) -> None:
    before = search("torchvision").digest
    (place / "sets").mkdir()
    (place / "cifar-10-batches-py").rename(place / "sets" / "cifar-10-batches-py")
    assert search("torchvision", root="sets").digest == before
    with pytest.raises(InputError, match="no cifar-10-batches-py in"):
        search("torchvision")


@pytest.mark.usefixtures("place")
def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """FakeCifar asserts that it is not asked to; the real classes get the same argument."""
    make = Mock(side_effect=RuntimeError("Dataset not found"))
    monkeypatch.setitem(DATASETS, "CIFAR10", replace(DATASETS["CIFAR10"], make=make))
    with pytest.raises(InputError):
        search("torchvision")
    assert make.call_args.kwargs == {"train": True, "download": False}


def test_a_dataset_without_a_test_split_holds_a_fifth_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(60):
        folder = tmp_path / "eurosat" / "2750" / CLASSES[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i:02d}.jpg")
    spec = DataSpec("torchvision", dataset="EuroSAT", proxy=30, validation=18)
    both = [
        (
            load_search_data(replace(spec, seed=seed), COLOUR, tmp_path),
            load_final_data(replace(spec, seed=seed), COLOUR, tmp_path, permit=TestPermit()),
        )
        for seed in (0, 3)
    ]
    for searched, finals in both:
        assert (len(finals.train.images), len(finals.test.images)) == (48, 12)
        assert finals.test.labels.bincount().tolist() == [4, 4, 4]
        assert set(searched.proxy.names) | set(searched.validation.names) == set(finals.train.names)
        assert not set(finals.train.names) & set(finals.test.names)
        assert finals.test.names[0].startswith("eurosat/2750/ant/")
        assert finals.classes == CLASSES
    assert both[0][1].test.names == both[1][1].test.names, "the test images depend on the seed"


def test_training_parts_are_joined(tmp_path: Path) -> None:
    """DTD trains on its training and its validation images."""
    base = tmp_path / "dtd" / "dtd"
    (base / "labels").mkdir(parents=True)
    random, lines = np.random.default_rng(0), dict[str, list[str]](train=[], val=[], test=[])
    for i, split in enumerate([*["train"] * 12, *["val"] * 9, *["test"] * 6]):
        name = f"{CLASSES[i % 3]}/{i:02d}.png"
        (base / "images" / CLASSES[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(base / "images" / name)
        lines[split].append(name)
    for split, names in lines.items():
        (base / "labels" / f"{split}1.txt").write_text("\n".join(names))
    spec = DataSpec("torchvision", dataset="DTD", proxy=12, validation=9)
    found = load_final_data(spec, COLOUR, tmp_path, permit=TestPermit())
    wanted = {split: {f"dtd/dtd/images/{name}" for name in names} for split, names in lines.items()}
    assert set(found.train.names) == wanted["train"] | wanted["val"]
    assert set(found.test.names) == wanted["test"]
    for split in (found.train, found.test):
        assert [CLASSES[label] for label in split.labels] == [Path(name).parent.name for name in split.names]
        assert torch.equal(split.images[3], read_file(tmp_path / split.names[3], COLOUR))
    data = load_search_data(spec, COLOUR, tmp_path)
    assert set(data.proxy.names) | set(data.validation.names) == wanted["train"] | wanted["val"]


@pytest.mark.skipif(not DEBIAN.is_dir(), reason=f"no {DEBIAN}: Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian(tmp_path: Path) -> None:
    """The real files, unpacked as the task's header says."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    packed = sorted(DEBIAN.glob("*.gz"))
    (raw / packed[0].name).symlink_to(packed[0])
    spec = replace(Task.load("fashion_mnist").data, proxy=100, validation=50)
    with pytest.raises(
        InputError, match=r"FashionMNIST/raw in the data directory, with the four \*-ubyte files unpacked"
    ):
        load_search_data(spec, GREY, tmp_path)
    for file in packed:
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    data = load_search_data(spec, GREY, tmp_path)
    assert data.proxy.images.shape == (100, 1, 8, 8)
    assert data.proxy.labels.bincount().tolist() == [10] * 10
    assert data.classes[0] == "T-shirt/top"
    whole = load_search_data(spec, replace(GREY, image_size=28), tmp_path)
    content = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    assert np.array_equal(content[list(whole.proxy.rows)], whole.proxy.images[:, 0].numpy())
    labels = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    assert labels[list(whole.proxy.rows)].tolist() == whole.proxy.labels.tolist()
    source = Torchvision(spec, GREY, tmp_path)
    test = source.test(TestPermit())
    assert len(source.train().labels) == 60_000
    assert len(test.labels) == 10_000
    assert test.read(9_999).shape == (1, 8, 8)


def test_an_unreadable_image_of_a_dataset_is_skipped(place: Path) -> None:
    """As in an image folder; here one that the dataset itself fails to decode."""
    real = FakeCifar.__getitem__

    def broken(self: FakeCifar, i: int) -> tuple[Image.Image, int]:
        if i == 4:
            raise OSError("broken data stream when reading image file")
        return real(self, i)

    data = search("torchvision", proxy=18, validation=12)
    assert data.skipped == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeCifar, "__getitem__", broken)
        assert place.is_dir()
        skipping = search("torchvision", proxy=18, validation=12)
    assert skipping.skipped == {"number 4": "broken data stream when reading image file"}
    assert skipping.digest != data.digest
    assert len(skipping.proxy.images) + len(skipping.validation.images) == 29
    assert pixels_of(skipping.proxy, skipping.validation) <= pixels_of(data.proxy, data.validation)


# Odd pictures


def test_a_long_strip_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    """Resized as a whole, it would take 8 x 160,000 x 3 bytes here and gigabytes at 224 pixels."""
    strip = np.zeros((2, 40_000, 3), dtype=np.uint8)
    strip[:, 19_990:20_010] = 200
    Image.fromarray(strip).save(tmp_path / "strip.png")
    image = read_file(tmp_path / "strip.png", COLOUR)
    assert image.shape == (3, 8, 8)
    assert (image.int() - 200).abs().max() <= 3


def test_one_pixel_is_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    assert read_file(tmp_path / "dot.png", COLOUR).unique().tolist() == [10, 20, 30]


def test_large_pictures_are_meant_and_bombs_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (60, 50), 7).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000)
        assert read_file(tmp_path / "large.png", COLOUR).unique().tolist() == [7]
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
        with pytest.raises(UnreadableError, match="decompression bomb"):
            read_file(tmp_path / "large.png", COLOUR)


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_of_deep_samples_half_as_many_are_a_bomb(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TIFF of 614 bytes that claims 167 megapixels of floats took 5 GB of memory and 13 seconds."""
    Image.new(mode, (60, 50), 7).save(tmp_path / "deep.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3_000)
    read_file(tmp_path / "deep.tif", COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_999)
    with pytest.raises(UnreadableError, match=r"megapixels of .* samples: save it smaller, or with 8 bits"):
        read_file(tmp_path / "deep.tif", COLOUR)
    examples = Decoder(examples=lambda: openers([tmp_path / "deep.tif"]))
    Image.new(mode, (6, 5), 7).save(tmp_path / "small.tif")
    read_file(tmp_path / "small.tif", COLOUR, examples)
    assert "each was scaled by itself" in "".join(examples.notes()), "one that is not read settles no range"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    read_file(tmp_path / "deep.tif", COLOUR)


# Bundled tasks

EVERY = ("cifar10", "cifar100", "svhn", "fashion_mnist", "eurosat", "dtd", "oxford_pets", "imagefolder")
FGVC = ("cub200", "nabirds", "flowers102", "stanford_dogs", "stanford_cars")
VTAB = ("vtab-cifar100", "vtab-dtd", "vtab-svhn")
OURS = (*EVERY, *FGVC, *VTAB)


def test_these_are_all_bundled_tasks() -> None:
    assert set(bundled("task")) == {"digits", "cifar100-subset", "cifar100-subset-wide", *OURS}


@pytest.mark.parametrize("name", OURS)
def test_a_bundled_task_is_the_papers_backbone_on_its_data(name: str) -> None:
    task = Task.load(name)
    assert task.name == name
    assert (task.backbone.name, task.backbone.image_size) == ("vit_base_patch16_224.orig_in21k", 224)
    assert task.backbone.name in timm.list_pretrained()
    assert Task.from_dict(task.to_dict()) == task
    header = bundled("task")[name].read_text(encoding="utf-8").split("name =")[0]
    for word in ("layout", "cost", "licence"):
        assert word in header.lower(), f"its header does not speak of {word}"
    if name in VTAB:
        assert (task.data.proxy, task.data.validation, task.data.limit) == (800, 200, 1000)
        assert task.data.dataset == Task.load(name.removeprefix("vtab-")).data.dataset


def test_keys_of_new_sources_leave_old_specs_as_they_were() -> None:
    old = ["source", "root", "proxy", "validation", "seed", "views"]
    assert list(Task.load("digits").to_dict()["data"]) == old
    assert list(Task.load("vtab-dtd").to_dict()["data"]) == [*old, "dataset", "limit"]


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"source": "torchvision"}, "dataset"),
        ({"source": "torchvision", "dataset": "CIFAR"}, "dataset"),
        ({"source": "digits", "dataset": "CIFAR10"}, "dataset"),
        ({"source": "digits", "root": "x"}, "root"),
        ({"source": "digits", "limit": 1199}, "limit"),
        ({"source": "digits", "limit": -1}, "limit"),
    ],
)
def test_data_that_cannot_be_is_refused_by_its_key(changed: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        DataSpec(**changed)
    assert caught.value.where == where


def test_a_misspelt_dataset_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'CIFAR100'"):
        DataSpec("torchvision", dataset="Cifar100")
    assert hub.TEST_SHARE == 0.2
