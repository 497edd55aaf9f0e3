"""Commands on a backbone of the hub or of a folder: the commit that was read is kept, and used again."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import timm
import torch

from utuning_search.results.exports import hub, peft
from utuning_search.results.load import load_tuned
from utuning_search.results.recommend import prepare
from utuning_search.search.study import Study
from utuning_search.training.task import Task

from ..repositories import COMMITS, NAME, Cache, write_model
from .commands import RUN, command, refused, succeeded

FIRST, SECOND = COMMITS
SPACE = """
name = "own"
[[slots]]
name = "q"
operation = "q"
tuner = ["lora"]
rank = [1, 2]
blocks = ["all"]
"""


@pytest.fixture
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    (place / "own.toml").write_text(SPACE)
    return Cache(place / "cache", monkeypatch)


def run(*options: str) -> str:
    return succeeded(*RUN, "--space", "own.toml", "--name", "s", "--trials", "1", "--no-pruning", *options)


def resume(*options: str) -> tuple[str, ...]:
    return ("resume", "s", "--trials", "2", "--workers", "0", *options)


def test_a_study_and_its_exports_keep_the_commit_that_was_read(cache: Cache, place: Path) -> None:
    cache.add(FIRST, seed=1)
    said = run("--backbone", NAME)
    assert f"HF_HUB_OFFLINE is set, so commit {FIRST[:12]} is taken from the cache" in " ".join(said.split())
    spec = tomllib.loads((place / "studies" / "s" / "spec.toml").read_text())
    assert spec["task"]["backbone"] == {"name": NAME, "checkpoint": "", "image_size": 0, "revision": FIRST}

    cache.add(SECOND, seed=2)  # the branch goes on
    succeeded(*resume("--backbone", NAME))
    assert len(Study.load("s").trials()) == 2
    assert "task.backbone.revision" in refused(*resume("--backbone", f"{NAME}@{SECOND}"))

    succeeded("export", "s", "--pick", "trial=0", "--out", "tuner")
    assert tomllib.loads((place / "tuner" / "tuner.toml").read_text())["backbone"]["revision"] == FIRST
    images = torch.zeros(1, 1, 8, 8)
    tuned = load_tuned("tuner")
    assert tuned.preprocessing.mean == (0.4,)

    succeeded("export", "s", "--pick", "trial=0", "--format", "timm", "--out", "plain")
    plain = timm.create_model("local-dir:plain", pretrained=True).eval()
    with torch.no_grad():
        assert torch.allclose(plain(images), tuned(images), atol=1e-5)
    study = Study.load("s")
    assert f'load_backbone("{NAME}@{FIRST}")' in "\n".join(peft._lines(study, "out"))

    shutil.rmtree(cache.snapshot(FIRST))
    ended = command(*resume("--trials", "3"))
    assert ended.code == 2
    assert f"hf download me/small --revision {FIRST}" in ended.err
    assert ended.err.count("\n") == 1


def test_a_study_made_from_python_keeps_it_too(cache: Cache) -> None:
    cache.add(FIRST, seed=1)
    with pytest.warns(UserWarning, match="is taken from the cache"):
        study = Study.create("own.toml", Task.load("tiny.toml").with_backbone(NAME))
    assert study.spec.task.backbone.revision == FIRST


def test_a_recommendation_goes_on_with_the_commit_that_it_read(
    cache: Cache, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "image_seconds", lambda *_: (0.001, 0.001))
    cache.add(FIRST, seed=1)
    said: list[str] = []

    def ready() -> Study:
        asked = {"max_parameters": 5_000, "seconds": 60, "backbone": NAME, "say": said.append, "device": "cpu"}
        return prepare.prepare(place / "photos" / "train", place / "out", **asked).study

    assert ready().spec.task.backbone.revision == FIRST
    cache.add(SECOND, seed=2)
    assert ready().spec.task.backbone.revision == FIRST
    assert said == [f"backbone {NAME}: HF_HUB_OFFLINE is set, so commit {FIRST[:12]} is taken from the cache"]


def test_a_backbone_in_a_folder_is_found_again(cache: Cache, place: Path) -> None:
    assert cache.place.parent == place
    write_model(place / "models" / "mine", 1)
    run("--backbone", "models/mine", "--data-dir", str(place))
    succeeded("export", "s", "--pick", "trial=0", "--out", "tuner")
    readme = (place / "tuner" / "README.md").read_text()
    assert "# A tuner for `mine` on `tiny`" in readme
    assert 'load_tuned("tuner", data_dir="DATA_DIR")' in readme
    logits = load_tuned("tuner", data_dir=place)(torch.zeros(1, 1, 8, 8))

    study = Study.load("s")
    hub.export(study, study.trials()[0], place / "hub")
    assert tomllib.loads((place / "hub" / "tuner.toml").read_text())["backbone"]["name"] == "local-dir:mine"
    assert 'checkpoint="FOLDER"' in (place / "hub" / "README.md").read_text()
    moved = (place / "models").rename(place / "elsewhere") / "mine"
    assert torch.equal(load_tuned("hub", checkpoint=moved)(torch.zeros(1, 1, 8, 8)), logits)
    said = command("predict", "tuner", "photos", "--data-dir", str(place))
    assert said.code == 2
    assert "'models/mine' in none of" in said.err
    assert "A timm model has no slash in its name" in said.err


def test_a_repository_without_its_prefix_is_told(cache: Cache) -> None:
    cache.add(FIRST)
    said = refused(*RUN, "--space", "own.toml", "--backbone", "me/small")
    assert "a repository of the hub is hf-hub:USER/MODEL" in said
    assert "\n" not in said.strip()
    assert not Path("studies").exists()
    assert json.loads((cache.snapshot(FIRST) / "config.json").read_text())["num_classes"] == 3
