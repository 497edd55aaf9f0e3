"""Decoded images in mapped files: the same as in memory, refused where the disk is full, and gone after the run."""

import gc
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from utuning_search.common.errors import DataError, InputError
from utuning_search.data.decoded import FinalData, SearchData, Store
from utuning_search.data.decoding import Decoder
from utuning_search.data.loading import load_final_data, load_search_data
from utuning_search.data.looking import look_at
from utuning_search.data.permit import TestPermit
from utuning_search.data.pixels import read_file
from utuning_search.search import study as studies
from utuning_search.search.budget import Budget
from utuning_search.search.layout import IMAGES, sweep
from utuning_search.search.study import Study
from utuning_search.training.task import Task

from ..search.test_kill import SPACE, TASK
from .test_tables import COLOUR, TRAIN_TEST, as_csv, load, noise, odd, photos

Usage = namedtuple("Usage", "total used free")


def mapped(images: torch.Tensor) -> bool:
    """Whether the pixels lie in a file, as the kernel has it."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= images.data_ptr() < last:
            return line.endswith(".npy")
    return False


@pytest.mark.parametrize("make", [noise, odd], ids=["noise", "copies"])
def test_images_in_files_are_those_in_memory(make: Callable[[int], Any], tmp_path: Path) -> None:
    """Decoded there, divided anew because of copies, and read again as another process does."""
    spec = load(found := look_at(photos(tmp_path, make, TRAIN_TEST)))[0] and found.spec()
    spec = Task.load("digits").on_data(found)[0].data
    here, store = load_search_data(spec, COLOUR, tmp_path), Store(tmp_path / "store")
    there = load_search_data(spec, COLOUR, tmp_path, store)
    there.save(store.folder)
    again = SearchData.restore(store.folder)
    assert here.digest == there.digest == again.digest
    for data in (there, again):
        assert data.index() == here.index()
        for one, other in ((data.proxy, here.proxy), (data.validation, here.validation)):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
            if Path("/proc/self/maps").exists():
                assert (mapped(one.images), mapped(other.images)) == (True, False)
            files = [read_file(tmp_path / "photos" / name, COLOUR, Decoder(here.decoding)) for name in one.names]
            assert torch.equal(one.images, torch.stack(files))
    finals = load_final_data(spec, COLOUR, tmp_path, permit=TestPermit(), store=Store(tmp_path / "finals"))
    finals.save(tmp_path / "finals")
    kept = FinalData.restore(tmp_path / "finals", permit=TestPermit())
    assert kept.digest == load_final_data(spec, COLOUR, tmp_path, permit=TestPermit()).digest
    assert torch.equal(kept.test.images, finals.test.images)
    store.remove()
    assert not store.folder.exists()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A space, a recipe of short trainings, and a table of images."""
    (tmp_path / "mini.toml").write_text(SPACE)
    (tmp_path / "tiny.toml").write_text(
        TASK.replace("epochs = 3", "epochs = 2").replace("100", "12").replace("60", "6")
    )
    monkeypatch.chdir(tmp_path)
    return as_csv(photos(tmp_path, noise, TRAIN_TEST), TRAIN_TEST)


def create(own: Path, name: str, **changed: Any) -> Study:
    return Study.create("mini.toml", "tiny.toml", data=own, name=name, sampler="random", **changed)


def left(study: Study) -> list[str]:
    return sorted(p.name for p in study.folder.glob(f"{IMAGES}*") if p.suffix != ".lock")


def test_trials_are_the_same_from_files_and_from_memory(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit: designs, accuracies, losses and weights."""
    found = []
    for name in ("files", "memory"):
        if name == "memory":
            monkeypatch.setattr(studies, "images_in", lambda *_: None)
        study = create(own, name)
        assert bool(left(study)) == (name == "files")
        assert study.run(Budget(trials=3), workers=0)
        assert not left(study)
        weights = [study.weights_file(t.number).read_bytes() for t in study.front()]
        found.append(([(str(t.design), t.values, t.state, t.measured) for t in study.trials()], weights))
    assert found[0] == found[1]
    assert len(found[0][0]) == 3


def test_images_are_removed_with_a_study_that_nobody_runs(own: Path) -> None:
    study = create(own, "s")
    folder = study.folder
    assert len(left(study)) == 1
    del study
    gc.collect()
    assert not list(folder.glob(f"{IMAGES}*"))


def test_a_refused_study_leaves_no_images(own: Path) -> None:
    """Nor the folders that were made for them."""
    with pytest.raises(InputError, match="--max-params"):
        create(own, "s", max_parameters=1)
    assert not Path("studies").exists()


def test_a_full_disk_is_said_in_one_line_before_an_image_is_decoded(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 700))
    said = r"folder studies/s: the disk has room for 12 decoded images, 0 MiB; got 0 MiB\. Make room there"
    with pytest.raises(DataError, match=said):
        create(own, "s")
    assert not Path("studies").exists()


def test_what_others_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    mine, dead = Store.beside(tmp_path / IMAGES), Store(tmp_path / f"{IMAGES}.0123abcd")
    for store in (mine, dead):
        store.allocate("proxy", (2, 1, 8, 8))
    for _ in range(2):
        sweep(tmp_path, mine)
        assert sorted(p.name for p in tmp_path.iterdir()) == [mine.folder.name, f"{mine.folder.name}.lock"]
        sweep(tmp_path)  # as another process, which finds that this one lives
    mine.remove()
    assert not list(tmp_path.iterdir())
