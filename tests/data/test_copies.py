"""The same picture twice: in one split only, named across given splits, and in two classes."""

import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError
from utuning_search.data import loading
from utuning_search.data import own as folders
from utuning_search.data.copies import apart, equal_files, fingerprints, grouped, torn
from utuning_search.data.decoded import SearchData
from utuning_search.data.loading import check_test_data, load_final_data, load_search_data
from utuning_search.data.permit import TestPermit
from utuning_search.data.spec import DataSpec

COLOUR = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
FOLDER = DataSpec("imagefolder", "photos", proxy=40, validation=20)
HELD = replace(FOLDER, held_out=0.2, scarce=True)
SUFFIXES = ("png", "bmp", "tif", "ppm")  # all of which keep pixels as they are


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def put(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)
    return path


def twelvefold(root: Path, classes: int = 3) -> Path:
    """Twelve copies of each of ten photos, in files of four formats, in classes drawn by chance."""
    random = np.random.default_rng(0)
    for photo in range(10):
        for copy in range(12):
            label = "abc"[random.integers(classes)]
            put(root / label / f"{photo}_{copy:02d}.{SUFFIXES[copy % 4]}", photo)
    return root


def photos_of(*splits: object) -> list[set[str]]:
    """Which photos are in each split."""
    return [{Path(n).stem.split("_")[0] for n in s.names} for s in splits]  # type: ignore[attr-defined]  # of a Split


@pytest.mark.parametrize("limits", [(5_000, 1 << 27), (0, 0)], ids=["pixels", "files"])
def test_copies_stay_in_one_split(limits: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of training, validation and test images, whatever their classes and formats; none is left out."""
    monkeypatch.setattr(folders, "MOST_IMAGES", limits[0])
    monkeypatch.setattr(folders, "MOST_BYTES", limits[1])
    twelvefold(tmp_path / "photos")
    spec = replace(HELD, proxy=70, validation=30)
    data = load_search_data(spec, COLOUR, tmp_path)
    finals = load_final_data(spec, COLOUR, tmp_path, permit=TestPermit())
    proxy, validation, test = photos_of(data.proxy, data.validation, finals.test)
    assert proxy
    assert validation
    assert test
    assert not proxy & validation
    if limits[0]:
        assert not test & (proxy | validation)
        assert finals.notes == ()
    else:  # files of the four formats differ, and what is left of a photo in the test is named
        assert any("are among the training images too" in n for n in finals.notes)
    assert len(finals.train.names) + len(finals.test.names) == 120
    assert set(data.proxy.names) | set(data.validation.names) <= set(finals.train.names)
    assert [n for n in data.notes if "are copies of" in n and "all to train on or all to compare on" in n]
    assert [n for n in data.notes if "pictures are in several classes, such as" in n]
    again = load_search_data(spec, COLOUR, tmp_path)
    assert (again.digest, again.index()) == (data.digest, data.index())


def test_copies_stay_in_one_split_of_given_training_images(tmp_path: Path) -> None:
    twelvefold(tmp_path / "photos" / "train", 2)
    data = load_search_data(replace(FOLDER, proxy=80, validation=40), COLOUR, tmp_path)
    proxy, validation = photos_of(data.proxy, data.validation)
    assert not proxy & validation
    assert len(data.proxy.names) + len(data.validation.names) == 120
    for split in (data.proxy, data.validation):
        for name, image, label in zip(split.names, split.images, split.labels.tolist(), strict=True):
            assert torch.equal(
                image.permute(1, 2, 0), torch.from_numpy(np.array(Image.open(tmp_path / "photos" / name)))
            )
            assert name.split("/")[1] == "ab"[label]


def test_without_copies_nothing_moves(tmp_path: Path) -> None:
    """Recorded studies keep their splits: those that were drawn by labels alone."""
    for i in range(60):
        put(tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i}.png", i)
    data = load_search_data(FOLDER, COLOUR, tmp_path)
    assert data.notes == ()
    assert [len(s.rows) for s in (data.proxy, data.validation)] == [40, 20]
    put(tmp_path / "photos" / data.proxy.names[0], 1_000)
    moved = load_search_data(FOLDER, COLOUR, tmp_path)
    assert (moved.proxy.names, moved.validation.names) == (data.proxy.names, data.validation.names)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.booleans()), min_size=2, max_size=60))
def test_no_group_is_torn_unless_there_is_no_other_way(rows: list[tuple[int, int, bool]]) -> None:
    labels, groups, second = (np.array(column) for column in zip(*rows, strict=True))
    groups = grouped([str(g) for g in groups])
    divided = apart(labels.astype(np.int64), groups, second)
    if not torn(groups, second):
        assert divided is second
    elif torn(groups, divided):
        assert divided is second, "nothing was mended"
    else:
        assert divided.any()
        assert set(labels[~divided]) == set(labels), "a class has nothing left to train on"
        wanted, found = (np.bincount(labels[part], minlength=3) for part in (second, divided))
        assert (found <= wanted + np.bincount(groups).max()).all()


def test_data_of_one_picture_cannot_be_mended_and_says_so(tmp_path: Path) -> None:
    for i in range(60):
        put(tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i}.png", i % 2)
    data = load_search_data(FOLDER, COLOUR, tmp_path)
    assert any("validation counts what was learnt by heart" in n for n in data.notes)
    assert any(n == "class 'a': all its 30 images are equal once decoded." for n in data.notes)


def test_pictures_of_one_colour_are_no_copies(tmp_path: Path) -> None:
    for i in range(60):
        path = put(tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i}.png", i)
        if i < 20:
            Image.new("RGB", (8, 8)).save(path)
    notes = load_search_data(FOLDER, COLOUR, tmp_path).notes
    assert not [n for n in notes if "copies" in n]
    assert [n for n in notes if n.startswith("20 of 60 images are of a single colour")]


def test_equal_files_are_found_without_reading_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = (b"aaaa", b"bbbb", b"aaaa", b"another size", b"")
    paths = [tmp_path / str(i) for i in range(6)]
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    read: list[str] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: read.append(self.name) or real(self, *a, **k))
    found = equal_files(paths)  # the last is not there
    assert found[0] == found[2] != found[1]
    assert found[3:] == ["", "", ""]
    assert read == ["0", "1", "2"]


def test_fingerprints_tell_pixels_and_nothing_else(tmp_path: Path) -> None:
    images = torch.from_numpy(np.stack([np.array(picture(s)) for s in (1, 2, 1)])).permute(0, 3, 1, 2)
    first, second, third = fingerprints(images)
    assert first == third != second
    flat = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert fingerprints(flat) == [""]
    del tmp_path


# Before a search


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Given splits of two classes, 60 training and 20 test images; a data directory."""
    for i in range(80):
        part = "train" if i < 60 else "test"
        put(tmp_path / "photos" / part / "ab"[i % 2] / f"{i}.png", i)
    return tmp_path


def ahead(place: Path, spec: DataSpec = FOLDER) -> tuple[tuple[str, ...], SearchData]:
    data = load_search_data(spec, COLOUR, place)
    return check_test_data(spec, COLOUR, data, place, permit=TestPermit()), data


def test_test_images_that_are_trained_on_are_counted_and_named(split: Path) -> None:
    assert ahead(split)[0] == ()
    test = split / "photos" / "test"
    picture(0).save(test / "b" / "again.bmp")  # in another format and class
    for i in (2, 3):
        path = split / "photos" / "train" / "ab"[i % 2] / f"{i}.png"
        (test / "a" / f"copy{i}.png").write_bytes(path.read_bytes())
    notes, _ = ahead(split)
    (said,) = notes
    assert said.startswith("3 of 23 test images are among the training images too, ")
    assert "test/b/again.bmp = train/a/0.png" in said
    finals = load_final_data(FOLDER, COLOUR, split, permit=TestPermit())
    assert finals.notes == notes
    # Of those that the search has not drawn, equal files are found.
    few = replace(FOLDER, proxy=4, validation=2)
    notes, data = ahead(split, few)
    drawn = "train/a/0.png" in (*data.proxy.names, *data.validation.names)
    assert notes[0].startswith(f"{2 + drawn} of 23 test images")


def test_of_many_test_images_some_are_decoded_and_all_compared_as_files(
    split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, train = split / "photos" / "test", split / "photos" / "train"
    for name in ("61", "63"):
        (test / "b" / f"{name}.png").write_bytes((train / "b" / "1.png").read_bytes())
    monkeypatch.setattr(loading, "MOST_CHECKED", 1)  # the first one
    (said,), _ = ahead(split)
    assert said.startswith("at least 2 of 20 test images are among the training images too, ")


def test_unreadable_test_images_are_found_before_the_search(split: Path) -> None:
    test = split / "photos" / "test"
    (test / "a" / "60.png").write_bytes(b"no image")
    assert ahead(split)[0] == (
        "test image test/a/60.png cannot be read (no image of a known format), and is left out.",
    )
    (test / "a" / "62.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="at most 5% of the images cannot be read; got 2 of 20: test/a/6"):
        ahead(split)


def test_test_classes_that_differ_are_found_before_the_search(split: Path) -> None:
    test = split / "photos" / "test"
    (test / "a").rename(test / "A")
    for spec in (FOLDER, replace(FOLDER, scarce=True)):
        with pytest.raises(DataError, match=re.escape("same classes; got only one has A")) as caught:
            ahead(split, spec)
        assert "Rename 'A' (in training it is 'a')." in str(caught.value)


def test_black_test_images_are_named(split: Path) -> None:
    for path in (split / "photos" / "test" / "a").iterdir():
        Image.new("RGB", (8, 8)).save(path)
    notes, _ = ahead(split)
    assert notes[0].startswith("of the test, 10 of 20 images are of a single colour once decoded (test/a/")
    assert notes[1] == "of the test, class 'a': all its 10 images are equal once decoded."


def test_test_images_of_a_kind_that_is_not_trained_on_are_said(split: Path) -> None:
    test = split / "photos" / "test" / "a"
    icon = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    icon.paste((255, 0, 0, 255), (2, 0, 4, 8))
    icon.save(test / "60.png")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(test / "62.png")
    notes, _ = ahead(split)
    assert notes == (
        "of the test, 1 image is (test/a/60.png) put on white, being transparent in part.",
        "of the test, 1 image is (test/a/62.png) of 16-bit samples: each was scaled by itself, as no training image is "
        "of the kind.",
    )
    for name in ("0.png", "2.png"):
        shutil.copy(test / f"6{name}", split / "photos" / "train" / "a" / name)
    assert not [note for note in ahead(split)[0] if "of the test" in note]


def test_test_images_are_looked_at_with_a_permit_only(split: Path) -> None:
    data = load_search_data(FOLDER, COLOUR, split)
    with pytest.raises(DataError, match="with a TestPermit only"):
        check_test_data(FOLDER, COLOUR, data, split)


def test_a_pipe_among_the_images_is_not_waited_for(split: Path) -> None:
    os.mkfifo(split / "photos" / "train" / "a" / "pipe.png")
    os.mkfifo(split / "photos" / "test" / "a" / "pipe.png")
    notes, data = ahead(split)
    assert (notes, data.skipped) == ((), {})
    assert Counter(Path(n).suffix for n in data.proxy.names) == {".png": 40}
