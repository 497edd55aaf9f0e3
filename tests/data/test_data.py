"""Data: splits are stratified, disjoint, by seed; images of every kind load; no test image is read."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import ImageFolder

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import DataError, InputError
from utuning_search.data.decoded import SearchData, Split
from utuning_search.data.folder import Folder
from utuning_search.data.loading import _digest, load_search_data
from utuning_search.data.spec import DataSpec
from utuning_search.data.splits import split_indices
from utuning_search.training.recipe import Recipe
from utuning_search.training.task import Task

GREY = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")
COLOUR = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
DIGITS = DataSpec("digits", proxy=200, validation=100)
FOLDER = DataSpec("imagefolder", "photos", proxy=8, validation=4)
CLASSES = ("ant", "bee", "cat")


def noise(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """A picture in colours with an alpha channel, `size` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An image folder, three classes of six training images and two test images."""
    for i, (split, label, number) in enumerate(
        (split, label, number)
        for split, count in (("train", 6), ("test", 2))
        for label in CLASSES
        for number in range(count)
    ):
        folder = tmp_path / "photos" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        noise(i).convert("RGB").save(folder / f"{number}.png")
    return tmp_path / "photos"


def load(photos: Path, spec: DataSpec = FOLDER, preprocessing: Preprocessing = COLOUR) -> SearchData:
    return load_search_data(spec, preprocessing, photos.parent)


def refusal(photos: Path, spec: DataSpec = FOLDER) -> str:
    with pytest.raises((DataError, InputError)) as caught:
        load(photos, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Splits


def labels_of(*counts: int) -> np.ndarray:
    """Labels with so many of each class, in a mixed order."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize(("proxy", "validation"), [(60, 30), (100, 50), (140, 40), (120, 80)])
@pytest.mark.parametrize("seed", [0, 7])
def test_splits_are_disjoint_and_stratified(proxy: int, validation: int, seed: int) -> None:
    labels = labels_of(100, 60, 40)
    spec = DataSpec("digits", proxy=proxy, validation=validation, seed=seed)
    parts = split_indices(labels, spec, "here")
    assert [len(set(p)) for p in parts] == [proxy, validation]
    assert not set(parts[0]) & set(parts[1])
    for part in parts:
        shares = np.bincount(labels[part]) / len(part)
        assert np.abs(shares - [0.5, 0.3, 0.2]).max() <= 1.01 / len(part)


def test_splits_are_a_function_of_the_seed() -> None:
    labels = labels_of(50, 50)
    by_seed = [split_indices(labels, replace(DIGITS, proxy=40, validation=20, seed=s), "here") for s in (0, 0, 1)]
    assert by_seed[0] == by_seed[1]
    assert by_seed[0][0] != by_seed[2][0]
    assert by_seed[0][1] != by_seed[2][1]


def test_all_images_may_be_used() -> None:
    proxy, validation = split_indices(labels_of(30, 30), replace(DIGITS, proxy=40, validation=20), "here")
    assert sorted(proxy + validation) == list(range(60))


REFUSED: dict[str, tuple[tuple[int, ...], int, int, str]] = {
    "too-few-images": ((10, 10), 15, 6, r"fit into the training images; got 20 .* proxy 15 \+ validation 6\. Lower"),
    "no-images": ((), 2, 2, "fit into the training images; got 0"),
    "one-class": ((20,), 8, 4, "at least two classes; got 1"),
    "a-class-of-one": ((10, 1, 10), 8, 4, "every class has at least 2 training images; got class 'bee' has 1"),
    "fewer-than-classes": ((9, 9, 9), 6, 2, "stratified by class; got .*Raise proxy and validation"),
    "a-rest-below-classes": ((9, 9, 9), 20, 6, r"left out .* got 1 of 27\. Make proxy \+ validation 27, or at most 24"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_split_is_refused(name: str) -> None:
    counts, proxy, validation, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        split_indices(labels_of(*counts), replace(DIGITS, proxy=proxy, validation=validation), "here", CLASSES)
    assert "\n" not in str(caught.value)


# Digits


def test_digits_are_the_images_of_scikit_learn() -> None:
    data = load_search_data(DIGITS, GREY)
    assert data.proxy.images.shape == (200, 1, 8, 8)
    assert data.validation.images.shape == (100, 1, 8, 8)
    assert data.proxy.images.dtype == torch.uint8
    assert data.proxy.labels.dtype == torch.int64
    assert data.classes == tuple("0123456789")
    loaded = load_digits()
    by_image = {np.rint(i * 255 / 16).astype(np.uint8).tobytes(): t for i, t in zip(*loaded_pairs(loaded), strict=True)}
    for split in (data.proxy, data.validation):
        assert [by_image[i.numpy().tobytes()] for i in split.images] == split.labels.tolist()


def loaded_pairs(loaded: object) -> tuple[np.ndarray, np.ndarray]:
    return loaded.images, loaded.target  # type: ignore[attr-defined]  # scikit-learn's Bunch


def test_digits_keep_the_same_images_out_for_every_seed() -> None:
    """All that any seed can draw are 1,347 images; the other 450 are for finalists."""
    everything = [load_search_data(replace(DIGITS, proxy=1000, validation=347, seed=s), GREY) for s in (0, 5)]
    seen = [Counter(i.numpy().tobytes() for s in (d.proxy, d.validation) for i in s.images) for d in everything]
    assert seen[0] == seen[1]
    assert seen[0].total() == 1797 - 450


# Digest


def test_digest_is_a_function_of_the_images(photos: Path) -> None:
    digest = load(photos).digest
    assert load(photos).digest == digest
    moved = photos.rename(photos.with_name("elsewhere"))
    assert load(moved, replace(FOLDER, root="elsewhere")).digest == digest


def one_pixel(photos: Path) -> None:
    for path in (photos / "train" / "bee").iterdir():
        picture = Image.open(path).convert("RGB")
        picture.putpixel((3, 3), tuple(255 - v for v in picture.getpixel((3, 3))))  # type: ignore[union-attr,arg-type]  # of three bands
        picture.save(path)


def one_label(photos: Path) -> None:
    """The same image files in the same order; one of them in the class before."""
    (photos / "train" / "bee" / "0.png").rename(photos / "train" / "ant" / "9.png")


@pytest.mark.parametrize("change", [one_pixel, one_label])
def test_digest_changes_with_the_data(photos: Path, change: Callable[[Path], None]) -> None:
    whole = replace(FOLDER, proxy=12, validation=6)
    before = load(photos, whole).digest
    change(photos)
    assert load(photos, whole).digest != before


@pytest.mark.parametrize("changed", [{"seed": 1}, {"proxy": 9}, {"validation": 5}, {"proxy": 9, "validation": 3}])
def test_digest_changes_with_the_split(photos: Path, changed: dict[str, int]) -> None:
    assert load(photos, replace(FOLDER, **changed)).digest != load(photos).digest  # type: ignore[arg-type]  # all are ints


def test_digest_changes_with_a_label_alone() -> None:
    """Of the same images in the same splits; so it does with an image, and with which one could not be read."""
    images, labels = torch.arange(4 * 64, dtype=torch.uint8).reshape(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    split = Split(images, labels)
    changed = (
        replace(split, labels=torch.tensor([0, 1, 1, 1])),
        replace(split, images=images + (images == 7)),
        replace(split, skipped={"a/1.png": "truncated"}),
    )
    assert _digest(split, split) == _digest(split, replace(split, skipped={}))
    digests = {_digest(split, split), *(_digest(c, split) for c in changed), *(_digest(split, c) for c in changed)}
    assert len(digests) == 1 + 2 * len(changed)


# Image folders


def test_an_image_folder_is_what_was_written(photos: Path) -> None:
    data = load(photos, replace(FOLDER, proxy=12, validation=6))
    assert data.classes == CLASSES
    assert data.num_classes == 3
    written = {
        np.array(Image.open(p)).transpose(2, 0, 1).tobytes(): CLASSES.index(p.parent.name)
        for p in (photos / "train").glob("*/*.png")
    }
    found = {
        image.numpy().tobytes(): int(label)
        for split in (data.proxy, data.validation)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == written


def test_splits_of_a_folder_are_disjoint(photos: Path) -> None:
    data = load(photos)
    parts = [{i.numpy().tobytes() for i in s.images} for s in (data.proxy, data.validation)]
    assert [len(p) for p in parts] == [8, 4]
    assert not parts[0] & parts[1]


KINDS = {
    "RGBA.png": "RGBA",
    "grey.png": "L",
    "grey-alpha.png": "LA",
    "palette.png": "P",
    "one-bit.png": "1",
    "RGB.jpg": "RGB",
    "grey.jpeg": "L",
    "CMYK.jpg": "CMYK",
    "RGB.webp": "RGB",
    "RGBA.webp": "RGBA",
    "RGB.bmp": "RGB",
    "RGB.ppm": "RGB",
    "grey.pgm": "L",
    "RGB.TIFF": "RGB",
}
SIZES = ((8, 8), (13, 9), (9, 13), (5, 7), (3, 40), (300, 11))


@pytest.mark.parametrize("preprocessing", [COLOUR, GREY], ids=["colour", "grey"])
def test_images_of_any_kind_and_size_load(photos: Path, preprocessing: Preprocessing) -> None:
    shutil.rmtree(photos)
    for j, label in enumerate(CLASSES[:2]):
        folder = photos / "train" / label
        folder.mkdir(parents=True)
        for i, (name, mode) in enumerate(KINDS.items()):
            picture = noise(i, SIZES[(i + j) % len(SIZES)])
            picture = picture if mode in ("RGBA", "LA") else picture.convert("RGB")
            picture.convert(mode).save(folder / name)
        deep = np.random.default_rng(j).integers(0, 1 << 16, (9, 8), dtype=np.uint16)
        Image.fromarray(deep).save(folder / "sixteen-bit.png")
    spec = replace(FOLDER, proxy=len(KINDS), validation=len(KINDS) + 2)
    data = load(photos, spec, preprocessing)
    for split in (data.proxy, data.validation):
        assert split.images.shape[1:] == (preprocessing.channels, 8, 8)
        assert split.images.dtype == torch.uint8
        assert all(i.float().std() > 5 for i in split.images), "an image came out flat"
        assert all(60 < i.float().mean() < 200 for i in split.images), "an image came out dark or bright"


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.webp", "x.ppm"])
@pytest.mark.parametrize("preprocessing", [COLOUR, GREY], ids=["colour", "grey"])
def test_pixels_do_not_depend_on_the_format(photos: Path, name: str, preprocessing: Preprocessing) -> None:
    reference = load(photos, preprocessing=preprocessing)
    for path in list((photos / "train").glob("*/*.png")):
        options = {"lossless": True} if name.endswith("webp") else {}
        picture = Image.open(path)
        picture.load()
        path.unlink()
        picture.save(path.with_suffix(name[1:]), **options)
    found = load(photos, preprocessing=preprocessing)
    assert found.digest == reference.digest


def test_an_image_is_resized_at_its_shorter_side_and_cropped_at_its_centre(photos: Path) -> None:
    for path in (photos / "train").glob("*/*.png"):
        wide = np.zeros((16, 64, 3), dtype=np.uint8)
        wide[:, 24:40] = 200  # the middle square
        Image.fromarray(wide).save(path)
    images = load(photos).proxy.images
    assert (images[:, :, :, 1:7].int() - 200).abs().max() <= 3, "black from beside the middle square"


def corrupt(photos: Path, content: bytes, name: str = "0.png") -> Path:
    path = photos / "train" / "bee" / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", ["cut", b"", b"no image\nat all"], ids=["cut", "empty", "text"])
@pytest.mark.parametrize("name", ["0.png", "0.jpg", "0.bmp", "0.tif"])
def test_a_corrupt_image_is_named(photos: Path, content: str | bytes, name: str) -> None:
    path = photos / "train" / "bee" / "0.png"
    picture = Image.open(path)
    picture.load()
    path.unlink()
    path = path.with_name(name)
    picture.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if isinstance(content, str) else content)
    message = refusal(photos, replace(FOLDER, proxy=12, validation=6))
    assert f"image folder {photos}: at most 5% of the images cannot be read; got 1 of 18: train/bee/{name} (" in message
    assert message.endswith("Replace or remove the files.")
    assert message.count(name) == 1


@pytest.fixture
def many(photos: Path) -> Path:
    """The same with 20 training images a class, so that one of 60 may be broken, and three, but not four."""
    for j, label in enumerate(CLASSES):
        for number in range(6, 20):
            noise(1000 * (j + 1) + number).convert("RGB").save(photos / "train" / label / f"{number}.png")
    return photos


WHOLE = replace(FOLDER, proxy=36, validation=24)


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_unreadable_images_are_skipped(many: Path, count: int) -> None:
    before = load(many, WHOLE)
    for number in range(count):
        corrupt(many, b"no image", f"{number}.png")
    data = load(many, WHOLE)
    assert len(data.skipped) == count
    assert data.skipped == {f"train/bee/{n}.png": "no image of a known format" for n in range(count)}
    assert len(data.proxy.images) + len(data.validation.images) == 60 - count
    assert len(data.proxy.labels) == len(data.proxy.images) == len(data.proxy.names)
    assert data.digest != before.digest, "the digest does not say what was skipped"
    # The other images stay in the split that they were in.
    for mine, theirs in ((data.proxy, before.proxy), (data.validation, before.validation)):
        assert list(mine.names) == [n for n in theirs.names if n not in data.skipped]


def test_which_image_was_skipped_changes_the_digest(many: Path) -> None:
    first = corrupt(many, b"no image")
    content = first.with_name("1.png").read_bytes()
    one = load(many, WHOLE).digest
    first.write_bytes(content)
    corrupt(many, b"no image", "1.png")
    assert load(many, WHOLE).digest != one


def test_more_than_a_twentieth_unreadable_is_refused(many: Path) -> None:
    for number in range(4):
        corrupt(many, b"no image", f"{number}.png")
    message = refusal(many, WHOLE)
    assert "at most 5% of the images cannot be read; got 4 of 60: train/bee/" in message
    assert message.count("train/bee/") == 3


def test_hidden_files_and_other_files_do_not_count(photos: Path) -> None:
    before = load(photos)
    for name in (".DS_Store", "._0.png", ".hidden.jpg", "notes.txt", "0.json"):
        (photos / "train" / "ant" / name).write_bytes(b"no image")
    for folder in (photos / "train" / ".ipynb_checkpoints", photos / "train" / "bee" / ".thumbs"):
        folder.mkdir()
        (folder / "0.png").write_bytes(b"no image")
    (photos / "train" / "list.csv").write_text("a,b")
    after = load(photos)
    assert (after.digest, after.classes, after.skipped) == (before.digest, CLASSES, {})


def test_folders_below_a_class_belong_to_it(photos: Path) -> None:
    everything = replace(FOLDER, proxy=12, validation=6)
    (photos / "train" / "bee" / "wild" / "north").mkdir(parents=True)
    (photos / "train" / "bee" / "0.png").rename(photos / "train" / "bee" / "wild" / "0.png")
    (photos / "train" / "bee" / "1.png").rename(photos / "train" / "bee" / "wild" / "north" / "1.png")
    data = load(photos, everything)
    assert data.classes == CLASSES
    names = {n for s in (data.proxy, data.validation) for n, y in zip(s.names, s.labels, strict=True) if y == 1}
    assert len(names) == 6
    assert {"train/bee/wild/0.png", "train/bee/wild/north/1.png"} < names


def test_an_image_folder_is_listed_as_torchvision_lists_it(photos: Path) -> None:
    """Recorded studies were made with torchvision's order."""
    for name in ("B.png", "a b.PNG", "10.jpeg", "sub/2.webp", "sub.d/1.png", "Sub/0.tif"):
        path = photos / "train" / "bee" / name
        path.parent.mkdir(exist_ok=True)
        noise(len(name)).convert("RGB").save(path)
    listed = ImageFolder(str(photos / "train"))
    part = Folder(FOLDER, COLOUR, photos.parent).train()
    assert list(part.names) == [Path(p).relative_to(photos).as_posix() for p, _ in listed.samples]
    assert part.labels.tolist() == listed.targets


def test_no_test_image_is_read(photos: Path) -> None:
    before = load(photos)
    for path in (photos / "test").glob("*/*.png"):
        path.write_bytes(b"no image")
    (photos / "test" / "a-fourth-class").mkdir()
    damaged = load(photos)
    shutil.rmtree(photos / "test")
    removed = load(photos)
    for after in (damaged, removed):
        assert (after.digest, after.classes) == (before.digest, before.classes)
        assert torch.equal(after.validation.images, before.validation.images)


def test_a_folder_of_one_class_is_refused(photos: Path) -> None:
    for label in CLASSES[1:]:
        shutil.rmtree(photos / "train" / label)
    assert "at least two classes" in refusal(photos, replace(FOLDER, proxy=3, validation=2))


def test_a_class_of_one_image_is_named(photos: Path) -> None:
    for number in range(1, 6):
        (photos / "train" / "cat" / f"{number}.png").unlink()
    message = refusal(photos)
    assert "class 'cat' has 1" in message
    assert "One is trained on and one compared on: add images, or remove the class." in message


def test_an_empty_class_is_named(photos: Path) -> None:
    (photos / "train" / "dog").mkdir()
    assert "dog" in refusal(photos)


def test_a_folder_without_train_is_refused(photos: Path) -> None:
    (photos / "train").rename(photos / "training")
    assert "train/<class>/<image>" in refusal(photos)
    (photos / "train").write_text("a file")
    assert "train/<class>/<image>" in refusal(photos)


def test_a_folder_that_is_not_there_is_refused(photos: Path) -> None:
    assert "--data-dir" in refusal(photos, replace(FOLDER, root="photo"))


# Tasks


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: DataSpec("fashion"), "source"),
        (lambda: DataSpec("digits", root="photos"), "root"),
        (lambda: DataSpec("imagefolder"), "root"),
        (lambda: DataSpec("digits", views=3), "views"),
        (lambda: DataSpec("digits", proxy=1), "proxy"),
        (lambda: DataSpec("digits", validation=0), "validation"),
        (lambda: DataSpec("digits", seed=-1), "seed"),
        (lambda: DataSpec("digits", seed=1 << 32), "seed"),
        (lambda: BackboneSpec("glyph_vit", image_size=-8), "image_size"),
        (lambda: Recipe(epochs=0), "epochs"),
        (lambda: Recipe(epochs=1), "warmup_epochs"),
        (lambda: Recipe(learning_rate=float("inf")), "learning_rate"),
        (lambda: Recipe(learning_rate=float("nan")), "learning_rate"),
        (lambda: Recipe(weight_decay=float("nan")), "weight_decay"),
        (lambda: Recipe(label_smoothing=1.0), "label_smoothing"),
        (lambda: Recipe(rungs=(2, 1)), "rungs"),
        (lambda: Recipe(rungs=(16,)), "rungs"),
    ],
)
def test_a_task_that_cannot_be_is_refused_by_its_key(make: Callable[[], object], word: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.where == word


@pytest.mark.parametrize("name", ["digits", "cifar100-subset"])
def test_bundled_tasks_survive_their_table(name: str) -> None:
    task = Task.load(name)
    assert Task.from_dict(task.to_dict()) == task
