"""What is read as a class and what as a split: splits by any name and beside anything, and no split as a class."""

import os
import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError
from utuning_search.data.loading import load_search_data
from utuning_search.data.spec import DataSpec
from utuning_search.data.split_names import role_of
from utuning_search.data.survey import Survey, survey

SPLITS = ("{0}/cat", "{0}/dog", "{1}/cat", "{1}/dog")


def lay(root: Path, *folders: str, each: int = 3) -> Path:
    """Folders with so many image files each, of which nobody decodes one."""
    for folder in folders:
        for i in range(each):
            path = root / "photos" / folder / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no image")
    return root / "photos"


def notes(found: Survey) -> str:
    return "\n".join(found.notes())


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("Train", "Valid"),
        ("TrainSet", "TestSet"),
        ("trainData", "valData"),
        ("train2017", "val2017"),
        ("X-train", "X-test"),
        ("flowers_train", "flowers_test"),
        ("trainset", "holdout"),
        ("train_labeled", "test"),
    ],
)
@pytest.mark.parametrize("beside", [(), ("runs/exp",), ("__MACOSX/train/cat",), ("annotations",), ("bus",)])
def test_split_folders_are_known_by_any_name_beside_anything(
    train: str, test: str, beside: tuple[str, ...], tmp_path: Path
) -> None:
    found = survey(lay(tmp_path, *(s.format(train, test) for s in SPLITS), *beside))
    assert (found.train_folder, found.test_folder) == (train, test)
    assert found.named == "2 classes: cat, dog"
    assert (notes(found) == "") == (not beside)
    for name in (b.split("/")[0] for b in beside):
        said = (
            f"systems keep files of their own there: '{name}'"
            if "_" in name
            else f"'{name}' is not used: it is no split"
        )
        assert said in notes(found)


@pytest.mark.parametrize(
    "name", ["steam train", "test tube", "training shoes", "valley", "contest", "devon", "火車 train"]
)
def test_a_word_that_is_part_of_a_name_makes_no_split(name: str, tmp_path: Path) -> None:
    assert survey(lay(tmp_path, name, "bus", "tram")).named.startswith("3 classes")
    assert role_of(name)[0] == "" or role_of(name)[1]


def test_splits_that_an_archive_wrapped_are_found(tmp_path: Path) -> None:
    found = survey(lay(tmp_path, *(s.format("training_set/training_set", "test_set/images") for s in SPLITS)))
    assert (found.train_folder, found.test_folder) == ("training_set/training_set", "test_set/images")


@pytest.mark.parametrize("unlabelled", ["test", "test/unknown", "test/images"])
def test_a_test_folder_without_labels_gives_way_to_the_validation_images(unlabelled: str, tmp_path: Path) -> None:
    found = survey(lay(tmp_path, *(s.format("train", "val") for s in SPLITS), unlabelled))
    assert found.test_folder == "val"
    assert "'test' is not used: it has no folder of any of the classes" in notes(found)
    alone = survey(lay(tmp_path / "alone", "train/cat", "train/dog", unlabelled))
    assert (alone.test, alone.root.name) == (None, "train")
    assert "'test' is not used" in notes(alone)


REFUSED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "flat splits": (("train", "test"), "'test' among test, train", ""),
    "flat splits beside": (("train", "test", "runs"), "'test' among runs, test, train", ""),
    "classes and a test": (("cat", "dog", "test"), "'test' among cat, dog, test", ""),
    "no training": (("test/cat", "test/dog", "val/cat", "val/dog"), "'test' among test, val", "test"),
    "train and a class": (("train/cat", "train/dog", "bus"), "'train', with folders of images", "train"),
    "folds": (("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), "cat, dog in fold1, fold2", "fold1"),
    "folds beside": (("1/cat", "1/dog", "2/cat", "2/dog", "docs"), "cat, dog in 1, 2", "1"),
    "years": (("2019/a", "2019/b", "2020/a", "2020/b", "2020/c"), "a, b in 2019, 2020", "2020"),
    "a repository": (("dataset/cat", "dataset/dog", "examples", "docs"), "'dataset', with cat, dog in it", "dataset"),
    "another": (("flowers/rose", "flowers/tulip", "assets"), "'flowers', with rose, tulip in it", "flowers"),
    "splits below": (("d/train/a", "d/train/b", "d/test/a", "d/test/b", "c"), "test, train in 'd'", "d"),
    "folds of their own classes": (("fold_0/a", "fold_0/b", "fold_1/c", "fold_1/d"), "a, b, c, d in fold_0", "fold_0"),
    "folds that lack some": (("1/a", "1/b", "2/a", "2/c", "3/b", "3/c", "4/d", "4/a"), "a, b, c in 1, 2, 3, 4", "1"),
    "parts beside docs": (("part-1/a", "part-1/b", "part-2/c", "part-2/d", "docs"), "a, b, c, d in part-1", "part-1"),
    "a copy of the classes": (("a", "b", "backup/a", "backup/b"), "a, b beside 'backup' and in it", "backup"),
    "a selection of them": (("a", "b", "c", "small/a", "small/b"), "a, b beside 'small' and in it", "small"),
    "a fold beside classes": (("a", "b", "fold1/a", "fold1/b", "fold1/c"), "a, b beside 'fold1'", "fold1"),
    "splits and extra images": (("train", "test", "extra"), "'test' among extra, test, train", ""),
    "splits and a class": (("train", "test", "bus"), "'test' among bus, test, train", ""),
    "images without labels": (("labelled/a", "labelled/b", "unlabelled"), "'labelled', with a, b in it", "labelled"),
    "wrapped": (("x (1)/y/train/a", "x (1)/y/train/b", "x (1)/y/test/a"), "test, train) splits", "x (1)/y"),
    "wrapped domains": (
        ("amazon/images/a", "amazon/images/b", "webcam/images/a", "webcam/images/b"),
        "a, b in amazon, webcam",
        "amazon/images",
    ),
    "splits in classes": (("a/train", "a/test", "b/train", "b/test"), "test, train in a, b. Lay images out", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_class_is_refused_with_where_the_classes_are(name: str, tmp_path: Path) -> None:
    folders, got, below = REFUSED[name]
    root = lay(tmp_path, *folders)
    with pytest.raises(DataError) as caught:
        survey(root)
    assert got in str(caught.value)
    assert "\n" not in str(caught.value)
    if below:
        assert f"give --data {shlex.quote(str(root / below))}" in str(caught.value)
        assert survey(root / below)
    # So does a task of one's own, without a look at the folder before.
    spec = DataSpec("imagefolder", "photos", held_out=0.2, scarce=True)
    if name != "train and a class":  # where the class has folders in it, as a class may
        with pytest.raises(DataError):
            load_search_data(spec, Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic"), tmp_path)


def test_a_folder_a_species_in_one_a_genus_is_read_by_genus_and_said(tmp_path: Path) -> None:
    root = lay(tmp_path, "acer/rubrum", "acer/negundo", "salix/alba", "salix/caprea", "quercus/alba", "quercus/robur")
    found = survey(root)
    assert found.named == "3 classes: acer, quercus, salix"
    assert "such as negundo, rubrum in 'acer': all count as 'acer'" in notes(found)
    assert "folders" not in notes(survey(lay(tmp_path / "tiny", "a/images", "b/images")))
    wrapped = survey(lay(tmp_path / "wrapped", "benign/SOB/adenosis", "benign/SOB/phyllodes", "malignant/SOB/ductal"))
    assert wrapped.named == "2 classes: benign, malignant"
    wrapped = survey(lay(tmp_path / "wrapped", "malignant/SOB/lobular"))
    assert "such as adenosis, phyllodes in 'benign'" in notes(wrapped)


def test_the_part_with_most_images_is_offered(tmp_path: Path) -> None:
    """As of splits that are called in a language we do not know."""
    lay(tmp_path, "Testdaten/cat", "Testdaten/dog", each=1)
    root = lay(tmp_path, "Trainingsdaten/cat", "Trainingsdaten/dog")
    with pytest.raises(DataError, match=rf"Then give --data {root / 'Trainingsdaten'}, or"):
        survey(root)


def test_a_folder_of_the_system_that_nobody_may_list_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = lay(tmp_path, "java", "rust", "lost+found")
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert survey(root).classes == {"java": 3, "rust": 3}


def test_a_class_may_still_be_called_like_a_split_and_is_said(tmp_path: Path) -> None:
    """As of vehicles; with a class called 'test' beside it nobody would believe that."""
    assert "1 class called like a split, 'train': is that meant?" in notes(
        survey(lay(tmp_path, "train", "bus", "tram"))
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Cat", "cat", "dog"), "'Cat' and 'cat'"),
        (("cat", "cat ", "dog"), "'cat' and 'cat '"),
        (("ice cream", "ice_cream", "ice-cream"), "'ice cream' and 'ice-cream' and 'ice_cream'"),
        (("cat", "cat (1)", "dog"), "'cat' and 'cat (1)'"),
        (("cat", "cat - Copy", "dog", "dog copy"), "'cat' and 'cat - Copy', 'dog' and 'dog copy'"),
        (("cat", "cat\u200b"), "'cat' and 'cat\\u200b'"),
        ((unicodedata.normalize("NFD", "é"), "é"), "'e\u0301' and 'é'"),
        (("A", "A-", "A+", "car (2012)", "car (2013)", "a b", "ab"), ""),
    ],
)
def test_classes_of_nearly_the_same_name_are_said(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    wanted = [f"classes of nearly the same name, {said}: are they one? Then give them one name."] if said else []
    assert [n for n in survey(lay(tmp_path, *names)).notes() if "name" in n] == wanted


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cat", "dog", "masks"), "1 class called like what lies around images, 'masks': is that meant?"),
        (("images", "annotations"), "2 classes called like what lies around images, 'annotations', 'images'"),
        (("cat", "nan", "None"), "2 classes called like a value that is missing, 'None', 'nan': is that meant?"),
        (("apple", "fig", "none"), ""),
    ],
)
def test_classes_that_may_be_none_are_said(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    found = notes(survey(lay(tmp_path, *names)))
    assert said in found
    assert bool(found) == bool(said)


def test_images_beside_the_folders_of_a_split_do_not_hide_it(tmp_path: Path) -> None:
    found = survey(lay(tmp_path, *(s.format("train", "test") for s in SPLITS), "train"))
    assert (found.train_folder, found.test_folder, list(found.classes)) == ("train", "test", ["cat", "dog"])
    assert "3 images beside the class folders, left out." in notes(found)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("Apple", "apple", "'apple' (in training it is 'Apple')"),
        ("red apple", "red_apple", "'red_apple' (in training it is 'red apple')"),
        (unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café"), "too, but in other code points"),
        ("pear", "emu", "got 'emu' in test only"),
    ],
)
def test_classes_that_only_the_test_has_are_refused_before_the_search(
    train: str, test: str, said: str, tmp_path: Path
) -> None:
    root = lay(tmp_path, f"train/{train}", "train/dog", f"test/{test}", "test/dog")
    with pytest.raises(DataError, match="the classes of test are among those of train") as caught:
        survey(root)
    assert said in str(caught.value)


def test_an_empty_folder_of_the_test_is_no_class(tmp_path: Path) -> None:
    root = lay(tmp_path, *(s.format("train", "test") for s in SPLITS))
    (root / "test" / "emu").mkdir()
    assert survey(root).test == {"cat": 3, "dog": 3}


def test_folders_that_start_with_a_dot_are_left_out_and_said(tmp_path: Path) -> None:
    found = survey(lay(tmp_path, "java", "rust", ".net"))
    assert set(found.classes) == {"java", "rust"}
    assert "left out as hidden, since the name starts with a dot: '.net' (3 images). Rename what is a class." in notes(
        found
    )
    (tmp_path / "photos" / ".git").mkdir()
    assert ".git" not in notes(survey(tmp_path / "photos"))


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"])
def test_folders_of_systems_are_no_classes_and_hold_no_images(name: str, tmp_path: Path) -> None:
    found = survey(lay(tmp_path, "java", "rust", name, f"rust/{name}/0.png"))
    assert found.classes == {"java": 3, "rust": 3}
    assert f"systems keep files of their own there: '{name}' (3 images)" in notes(found)
