"""Few-shot tasks: so many training images a class, by seed; finals train on those that the search had."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError, InputError
from utuning_search.data.loading import load_final_data, load_search_data
from utuning_search.data.permit import TestPermit
from utuning_search.data.shots import final_rows, search_rows
from utuning_search.data.spec import SHOTS, DataSpec, data_table
from utuning_search.results.report.provenance import _task_options
from utuning_search.training.task import Task

SPEC = DataSpec("digits", validation=30, shots=4)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(3, dtype=np.int64), (60, 30, 18)))
GREY = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")


@pytest.mark.parametrize("shots", SHOTS)
@pytest.mark.parametrize("seed", [0, 7])
def test_each_class_has_its_shots(shots: int, seed: int) -> None:
    spec = replace(SPEC, shots=shots, seed=seed)
    trained, compared = search_rows(LABELS, spec, "here")
    assert np.bincount(LABELS[list(trained)]).tolist() == [shots] * 3
    assert len(set(compared)) == 30
    assert not set(trained) & set(compared)
    assert list(final_rows(LABELS, spec, "here")) == list(trained)


def test_validation_is_stratified_and_all_follows_the_seed() -> None:
    compared = search_rows(LABELS, SPEC, "here")[1]
    rest = np.array([60, 30, 18]) - 4
    assert np.abs(np.bincount(LABELS[list(compared)]) - 30 * rest / rest.sum()).max() <= 1
    by_seed = [search_rows(LABELS, replace(SPEC, seed=seed), "here") for seed in (0, 0, 1)]
    assert by_seed[0] == by_seed[1]
    assert all(a != b for a, b in zip(by_seed[0], by_seed[2], strict=True))


def test_without_shots_nothing_changes() -> None:
    spec = DataSpec("digits", proxy=40, validation=30)
    trained, _ = search_rows(LABELS, spec, "here")
    assert len(trained) == 40
    assert len(final_rows(LABELS, spec, "here")) == len(LABELS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shots": 3}, r"shots is one of 2, 4, 8, 16, or 0 for none; got 3"),
        ({"shots": -4}, "shots is one of"),
        ({"proxy": 500}, "there is no proxy; got 500. Leave out proxy, or shots"),
        ({"limit": 2000}, "there is no limit; got 2000"),
    ],
)
def test_specs_that_say_two_things_are_refused(changed: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SPEC, **changed)  # type: ignore[arg-type]  # each fits


@pytest.mark.parametrize(
    ("shots", "validation", "counts", "message"),
    [
        (16, 10, (40, 16), r"every class has more than 16 training images.*class 'bee' has 16\. Lower shots"),
        (8, 30, (20, 20), r"validation fits into the images that are no shots; got 24 of 40 for validation 30"),
        (4, 10, (40,), "at least two classes"),
    ],
)
def test_too_few_images_are_refused(shots: int, validation: int, counts: tuple[int, ...], message: str) -> None:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    with pytest.raises(DataError, match=message) as caught:
        search_rows(labels, replace(SPEC, shots=shots, validation=validation), "here", ("ant", "bee"))
    assert "\n" not in str(caught.value)


def test_scarce_classes_give_what_they_have() -> None:
    """Of a class of one it is trained on, of more one at least is left to compare on."""
    labels = np.repeat(np.arange(3, dtype=np.int64), (20, 3, 1))
    spec = DataSpec("imagefolder", "photos", validation=2, shots=4, scarce=True)
    assert np.bincount(labels[list(search_rows(labels, spec, "here")[0])]).tolist() == [4, 2, 1]


def test_finals_train_on_the_shots_of_the_search(tmp_path: Path) -> None:
    """And are measured on all test images."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 9), ("test", 5)):
        for label in "ab":
            for i in range(count):
                path = tmp_path / "photos" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    spec = DataSpec("imagefolder", "photos", validation=6, shots=2)
    search = load_search_data(spec, GREY, tmp_path)
    final = load_final_data(spec, GREY, tmp_path, permit=TestPermit())
    assert search.proxy.names == final.train.names
    assert (len(search.proxy.labels), len(search.validation.labels), len(final.test.labels)) == (4, 6, 10)


def test_tables_say_shots_and_no_proxy() -> None:
    """And older specs, which have none, keep their digests."""
    assert "shots" not in data_table(DataSpec("digits"))
    table = data_table(SPEC)
    assert (table["shots"], "proxy" in table) == (4, False)
    few = Task.load("digits").with_shots(8)
    assert Task.from_dict(few.to_dict()) == few
    assert _task_options(few) == (["--shots", "8"], True)
    smaller = few.with_backbone(image_size=16)
    assert _task_options(smaller) == (["--shots", "8", "--backbone", "glyph_vit", "--image-size", "16"], True)
    odd = few.with_ood("letters")
    assert Task.from_dict(odd.to_dict()) == odd
    assert _task_options(odd) == (["--shots", "8", "--ood", "letters"], True)
