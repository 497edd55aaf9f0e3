"""Images from Python: decoded once into the study's folder, read by the same code as files, and never pickled."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import safetensors.torch
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from utuning_search import own_data
from utuning_search.common.errors import DataError, InputError
from utuning_search.data.decoding import Decoding
from utuning_search.data.given import OwnData, Pictures
from utuning_search.data.loading import SearchData, load_final_data, load_search_data, write_given
from utuning_search.data.looking import look_at
from utuning_search.data.permit import TestPermit
from utuning_search.results.confirm import confirm
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training import full
from utuning_search.training.task import Task

from ..search.test_kill import SPACE, TASK
from .test_tables import CLASSES, COLOUR, Make, noise, odd, photos

TRAIN, TEST = 24, 9


class Photos(Dataset[Any]):
    """Of Pillow's pictures; a lambda keeps it from being pickled."""

    classes = CLASSES

    def __init__(self, make: Make, count: int, first: int = 0) -> None:
        self.make, self.count, self.first = (lambda i: make(i)), count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Any, int]:
        if i >= self.count:
            raise IndexError
        return self.make(self.first + i), i % 3


def spec_of(given: Any) -> Any:
    task = Task.load("digits").on_data(look_at(given))[0]
    return Task.from_dict(task.to_dict()).data


def written(given: Any, folder: Path) -> SearchData:
    write_given(given, folder / "images", COLOUR)
    return load_search_data(spec_of(given), COLOUR, folder)


@pytest.mark.parametrize("make", [noise, odd])
def test_a_dataset_is_read_as_the_same_files_are(make: Make, tmp_path: Path) -> None:
    """Decoding, copies and what is said of them; files are sorted by class, so that the same images are compared."""
    data = Photos(make, TRAIN)
    order = sorted(range(TRAIN), key=lambda i: (i % 3, i))
    found = written(own_data(Subset(data, order), Photos(make, TEST, 100)), tmp_path)
    folder = photos(tmp_path, make, {"train": TRAIN // 3, "test": TEST // 3})
    for file in folder.rglob("*.png"):  # upright, as pictures from Python are
        number = 3 * int(file.stem) + CLASSES.index(file.parent.name) + 100 * (file.parts[-3] == "test")
        make(number).save(file)
    wanted = load_search_data(Task.load("digits").on_data(look_at(folder))[0].data, COLOUR, tmp_path)
    assert found.classes == wanted.classes == CLASSES
    assert (found.digest, found.decoding) == (wanted.digest, wanted.decoding)
    assert len(found.notes) == len(wanted.notes)
    if make is odd:
        assert found.decoding == Decoding(0, {"16-bit": (0.0, 1023.0)})


def forms() -> dict[str, Any]:
    pixels = np.stack([np.asarray(noise(i)) for i in range(TRAIN)])
    labels = [i % 3 for i in range(TRAIN)]
    tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = {"image": [noise(i) for i in range(TRAIN)], "label": labels}
    return {
        "pictures": own_data(Photos(noise, TRAIN)),
        "arrays": own_data((pixels, np.array(labels)), classes=CLASSES),
        "names": own_data((list(pixels), [CLASSES[i] for i in labels])),
        "tensors": own_data((tensors, torch.tensor(labels)), classes=CLASSES),
        "a tensor dataset": own_data(TensorDataset(tensors, torch.tensor(labels)), classes=CLASSES),
        "datasets": own_data(datasets.Dataset.from_dict(rows, features=features)),
    }


def test_all_forms_are_the_same_images(tmp_path: Path) -> None:
    found = {name: written(given, tmp_path / name) for name, given in forms().items()}
    assert {data.classes for data in found.values()} == {CLASSES}
    assert len({data.digest for data in found.values()}) == 1
    data = found["arrays"]
    assert data.proxy.names[0].startswith("train image ")
    spec = spec_of(forms()["arrays"])
    with pytest.raises(DataError, match="TestPermit"):
        load_final_data(spec, COLOUR, tmp_path / "arrays")
    finals = load_final_data(spec, COLOUR, tmp_path / "arrays", permit=TestPermit())
    assert (len(finals.train.labels), len(finals.test.labels)) == (18, 6), "a fifth of each class"


PIXELS = np.zeros((4, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("train", "more", "said"),
    [
        ((PIXELS, [0, 1, 0]), {}, "there are as many labels as images; got tuple of ndarray, list"),
        ((PIXELS, [0, 1, 0, 2.5]), {}, "train image 3: its label is a number or a name; got 2.5"),
        ((PIXELS, np.eye(4)), {}, "train image 0: its label is a number or a name; got array([1., 0., 0., 0.])"),
        ((PIXELS, torch.eye(4)), {}, "train image 0: its label is a number or a name; got tensor([1., 0., 0., 0.])"),
        ((PIXELS, ["a", " ", "a", "b"]), {}, "train image 1: its label is a number or a name; got ' '"),
        ((PIXELS, [0, 1, 0, 3]), {"classes": CLASSES}, "train image 3: its label is from 0 to 2"),
        ((PIXELS, [0, 1, 0, 1]), {"classes": ("a", "a")}, "names of classes are different"),
        ((PIXELS, [0, 1, 0, 1]), {"classes": ("a", "caf\udce9")}, r"names of classes are UTF-8; got 'caf\udce9'"),
        ((PIXELS, ["a", "\ud800", "a", "b"]), {}, r"names of classes are UTF-8; got '\ud800'"),
        ("photos", {}, "train images: it is a Dataset"),
        ([1, 2, 3], {}, "train image 0: it is a Dataset"),
        ((PIXELS, [0, 1, 0, 1]), {"test": [1, 2, 3]}, "test image 0: it is a Dataset"),
    ],
)
def test_what_is_no_data_is_refused(train: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        own_data(train, **more)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="some images are to train on; got none"):
        look_at(own_data((PIXELS[:0], [])))


def test_normalised_tensors_are_refused_with_what_to_do(tmp_path: Path) -> None:
    given = own_data((torch.rand(12, 3, 8, 8), [i % 3 for i in range(12)]))
    with pytest.raises(InputError, match=r"image 0: a tensor is uint8.*got torch.float32.*Leave out ToTensor"):
        write_given(given, tmp_path / "images", COLOUR)


def test_classes_are_checked_as_those_of_folders() -> None:
    pixels = np.zeros((8, 8, 8), np.uint8)
    for labels, said in (
        (["train"] * 4 + ["test"] * 4, "no class has the name of a split"),
        (["a"] * 8, "there are at least two classes"),
    ):
        with pytest.raises(DataError, match=said):
            look_at(own_data((pixels, labels)))
    with pytest.raises(DataError, match="got 'c' in the test only"):
        look_at(own_data((pixels, ["a", "b"] * 4), (pixels, ["a", "c"] * 4)))


def test_a_study_has_what_it_needs_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Created, run, moved, resumed and confirmed, though the dataset is gone."""
    monkeypatch.chdir(tmp_path)
    Path("mini.toml").write_text(SPACE)
    task = TASK.replace("epochs = 3", "epochs = 2").replace("proxy = 100", "proxy = 12").replace("= 60", "= 6")
    Path("tiny.toml").write_text(task)
    given = own_data(Photos(noise, TRAIN), Photos(noise, TEST, 100))
    study = Study.create("mini.toml", "tiny.toml", data=given, name="s", sampler="random")
    del given
    assert study.run(Budget(trials=1), workers=0)
    assert sorted(p.name for p in (study.folder / "images").iterdir()) == ["about.safetensors", "test.npy", "train.npy"]
    assert study.classes == list(CLASSES)
    shutil.move("studies", "moved")
    again = Study.load("s", studies_dir="moved")
    assert again.run(Budget(trials=2), workers=0)
    assert len(again.trials()) == 2
    monkeypatch.setattr(full, "MOST_ROUNDS", 2)
    found = confirm(again, trials=[0], seeds=1, epochs=1, workers=0)
    assert found.test_images == TEST
    with pytest.raises(DataError, match="decoded for this backbone, 3 x 8 x 8; got 1 x 8 x 8"):
        load_search_data(again.spec.task.data, COLOUR, again.folder)
    (again.folder / "images" / "about.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="the images are as they were written"):
        again.run(Budget(trials=3), workers=0)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"train.labels": torch.full((TRAIN,), 3)}, "labels that are no numbers below 3"),
        ({"train.labels": torch.full((TRAIN,), -1)}, "labels that are no numbers below 3"),
        ({"train.labels": torch.full((TRAIN,), 1 << 62)}, "labels that are no numbers below 3"),
        ({"train.labels": torch.zeros(TRAIN)}, "labels that are no numbers below 3"),
        ({"train.labels": torch.zeros(5, dtype=torch.int64)}, "5 images, 5 labels, 24 rows, 24 names"),
        ({"train.labels": torch.zeros(99, dtype=torch.int64)}, "24 images, 99 labels, 24 rows, 24 names"),
    ],
)
def test_labels_that_somebody_changed_are_refused(change: dict[str, Any], got: str, tmp_path: Path) -> None:
    """Of some, memory would be asked for more than there is."""
    given = own_data(Photos(noise, TRAIN))
    write_given(given, tmp_path / "images", COLOUR)
    path = tmp_path / "images" / "about.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        about = file.metadata()
    safetensors.torch.save_file(safetensors.torch.load_file(path) | change, path, about)
    with pytest.raises(DataError, match=rf"the images are as they were written; got {got}\. Put them back"):
        load_search_data(spec_of(given), COLOUR, tmp_path)


def test_images_that_cannot_be_had_are_left_out_and_named(tmp_path: Path) -> None:
    """As of a folder, up to a twentieth."""

    class Broken(Photos):
        def __getitem__(self, i: int) -> tuple[Any, int]:
            image, label = super().__getitem__(i)
            return (image if i != 5 else Unreadable()), label

    class Unreadable:
        """What a Dataset that opens files late may give."""

    with pytest.raises(InputError, match=r"image 5: each is a file, a picture of Pillow's.*got Unreadable"):
        write_given(own_data(Broken(noise, TRAIN)), tmp_path / "images", COLOUR)

    def picture(row: int) -> Any:
        if row == 5:
            raise OSError("truncated")
        return noise(row)

    labels = [CLASSES[i % 3] for i in range(TRAIN)]
    given = OwnData(Pictures(picture, labels), None, CLASSES)
    data = written(given, tmp_path)
    assert "train image 5 cannot be read (truncated), and is left out." in data.notes
    assert "train image 5" not in {*data.proxy.names, *data.validation.names}


def test_pictures_are_opened_one_by_one() -> None:
    asked: list[int] = []

    def picture(row: int) -> Any:
        asked.append(row)
        return noise(row)

    assert Pictures(picture, ["a", "b"]).open(1).size == (8, 8)
    assert asked == [1]
