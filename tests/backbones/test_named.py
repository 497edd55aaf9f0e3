"""Backbones by the name of a hub's repository or a folder: what is read, which commit, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants, errors

from utuning_search.backbones import hub
from utuning_search.backbones.loading import load_backbone, load_digested, preprocessing_of
from utuning_search.backbones.names import Named, parse_name
from utuning_search.backbones.opened import pinned
from utuning_search.backbones.origin import origin_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import BackboneError, InputError, UTuningError

from ..repositories import COMMITS, CONFIG, NAME, Cache, small_model, write_model

FIRST, SECOND = COMMITS


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(tmp_path / "cache", monkeypatch)


def features(model: torch.nn.Module, headed: bool = False) -> torch.Tensor:
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.forward_head(model.forward_features(images), pre_logits=True) if headed else model(images)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vit_base_patch16_224.orig_in21k", Named("", "vit_base_patch16_224.orig_in21k")),
        ("hf-hub:timm/vit_tiny.a", Named("hf-hub", "timm/vit_tiny.a")),
        ("HF_HUB:me/m@v1.0", Named("hf-hub", "me/m", "v1.0")),
        ("hf-hub:me/m@refs/pr/3", Named("hf-hub", "me/m", "refs/pr/3")),
        ("local-dir:my model@home", Named("local-dir", "my model@home")),
        ("models/mine", Named("local-dir", "models/mine")),
        ("./mine", Named("local-dir", "./mine")),
        ("~", Named("local-dir", "~")),
        (r"C:\models", Named("local-dir", r"C:\models")),
    ],
)
def test_a_name_says_what_it_names(name: str, found: Named) -> None:
    assert parse_name(name) == found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hub:me/m", r"a prefix of its name is hf-hub: or local-dir:; got 'hub:'"),
        ("hf-hub:", r"USER/MODEL stands after hf-hub:"),
        ("local-dir:", r"the path of a folder stands after local-dir:"),
        ("hf-hub:me/m@", r"named hf-hub:USER/MODEL or hf-hub:USER/MODEL@REVISION; got 'hf-hub:me/m@'"),
        ("hf-hub:me/m@a@b", r"@REVISION; got"),
        ("hf-hub:a/b/c", r"@REVISION; got"),
        ("hf-hub:../../etc", r"@REVISION; got"),
    ],
)
def test_a_name_of_nothing_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        BackboneSpec(name)


def test_a_revision_is_one_of_a_repository() -> None:
    with pytest.raises(InputError, match=r"a revision is one of a repository.* got 'main' of 'test_vit'"):
        BackboneSpec("test_vit", revision="main")


# What is read


@pytest.mark.parametrize("how", ["hf-hub:me/small", "local-dir:{}", "{}"])
def test_weights_and_preprocessing_are_those_of_the_files(how: str, cache: Cache) -> None:
    name = how.format(cache.add(FIRST, seed=3))
    model = load_backbone(name)
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(features(model), features(small_model(3), headed=True))
    read = preprocessing_of(model, name, crop=0)
    assert (read.image_size, read.channels, read.mean, read.std) == (8, 1, (0.4,), (0.3,))
    assert (read.interpolation, read.crop) == ("bilinear", 0.8)
    larger = load_backbone(name, image_size=16)
    assert larger.state_dict()["pos_embed"].shape == (1, 1 + 64, 16)
    assert load_digested(name)[1] == load_digested(name, image_size=16)[1]


def test_a_checkpoint_stands_in_for_the_weights_of_a_folder(tmp_path: Path) -> None:
    folder, other = write_model(tmp_path / "a", 1), write_model(tmp_path / "b", 2)
    (folder / "model.safetensors").unlink()
    model = load_backbone(str(folder), other / "model.safetensors")
    assert torch.equal(features(model), features(small_model(2), headed=True))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "mine.pth"])
def test_other_files_are_read_without_their_code(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "a", 1)
    (folder / "model.safetensors").unlink()
    torch.save(small_model(4).state_dict(), folder / name)
    assert torch.equal(features(load_backbone(str(folder))), features(small_model(4), headed=True))
    torch.save({"norm.weight": Path("code")}, folder / name)
    with pytest.raises(InputError, match=f"{name}: the file is readable"):
        load_backbone(str(folder))


def test_safetensors_come_first(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "a", 1)
    torch.save(small_model(4).state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(features(load_backbone(str(folder))), features(small_model(1), headed=True))


def test_a_commit_of_a_branch_a_tag_or_itself_is_read(cache: Cache) -> None:
    cache.add(FIRST, seed=1, branch="v1.0")
    cache.add(SECOND, seed=2)
    for name, seed in ((NAME, 2), (f"{NAME}@v1.0", 1), (f"{NAME}@{FIRST}", 1), (f"{NAME}@{SECOND}", 2)):
        assert torch.equal(features(load_backbone(name)), features(small_model(seed), headed=True)), name
        spec, note = pinned(BackboneSpec(name))
        assert (spec.name, spec.revision) == (name, COMMITS[seed - 1])
        assert spec.exact == f"{NAME}@{COMMITS[seed - 1]}"
        assert ("HF_HUB_OFFLINE is set, so commit" in note) is not name.endswith(("a", "b"))
        assert pinned(spec) == (spec, "")
    assert pinned(BackboneSpec("test_vit")) == (BackboneSpec("test_vit"), "")


def test_a_spec_keeps_its_commit_after_the_branch_went_on(cache: Cache) -> None:
    cache.add(FIRST, seed=1)
    spec, _ = pinned(BackboneSpec(NAME))
    cache.add(SECOND, seed=2)
    assert BackboneSpec(**spec.to_dict()) == spec
    assert torch.equal(features(load_backbone(spec.exact)), features(small_model(1), headed=True))


# Asked over a network


class Answers:
    """In place of the hub: its answer to what a branch is at, and what is asked."""

    def __init__(self, answer: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer, self.asked = answer, []
        monkeypatch.setattr(hub, "get_hf_file_metadata", self)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def __call__(self, url: str) -> None:
        self.asked.append(url)
        if self.answer is not None:
            raise self.answer


def refusal(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "no")
    return error


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            errors.RepositoryNotFoundError,
            "the hub has the repository; got none that you may read. .*hf auth login",
        ),
        (errors.GatedRepoError, "you may read the repository; got one that is gated. Accept its terms"),
        (errors.RevisionNotFoundError, "the repository has the revision; got no 'v9'"),
        (errors.RemoteEntryNotFoundError, "the repository holds config.json; got no such file"),
    ],
)
def test_what_the_hub_refuses_is_told_though_something_is_cached(
    kind: type[Exception], said: str, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add(FIRST, branch="v9")
    Answers(refusal(kind), monkeypatch)
    with pytest.raises(InputError, match=said) as refused:
        load_backbone(f"{NAME}@v9")
    assert "\n" not in str(refused.value)


def test_without_a_connection_the_cache_is_taken_and_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.add(FIRST)
    answers = Answers(ConnectionError("no route"), monkeypatch)
    spec, note = pinned(BackboneSpec(NAME))
    assert spec.revision == FIRST
    assert (
        note
        == f"backbone {NAME}: the Hugging Face hub cannot be reached, so commit {FIRST[:12]} is taken from the cache"
    )
    load_backbone(spec.exact)
    assert len(answers.asked) == 1, "a commit that is cached is asked for"
    assert answers.asked[0].endswith("me/small/resolve/main/config.json")


def test_without_a_cache_one_line_says_what_to_do(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError) as refused:
        load_backbone(NAME)
    line = str(refused.value)
    assert "\n" not in line
    for said in ("backbone 'hf-hub:me/small'", str(cache.place), "offline mode is enabled", "hf download me/small"):
        assert said in line
    Answers(ConnectionError("no route"), monkeypatch)
    with pytest.raises(BackboneError, match=r"or config\.json is in the cache, .* got ConnectionError: no route"):
        load_backbone(NAME)


def test_weights_that_are_not_cached_are_told(cache: Cache) -> None:
    (cache.add(FIRST) / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"model\.safetensors or .* is in the cache"):
        load_backbone(NAME)


def test_the_class_is_looked_at_before_weights_are_fetched(cache: Cache) -> None:
    """What carries no tuners, or has no such size, is refused with config.json alone."""
    config = {"architecture": "resnet18", "pretrained_cfg": {"num_classes": 3}}
    (cache.add(FIRST, config=config) / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"backbone 'hf-hub:me/small': the model is a timm .*; got ResNet"):
        load_backbone(NAME)
    (cache.add(SECOND) / "model.safetensors").unlink()
    with pytest.raises(InputError, match="image_size is a multiple of its patches, 2; got 9"):
        load_backbone(NAME, image_size=9)


# What is refused


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in CONFIG.items() if k != key}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (without("architecture"), "or the model_type of one of transformers; got neither"),
        ({"model_type": "bert"}, "its model_type is one that timm has a model for; got 'bert'"),
        ({**CONFIG, "architecture": "vit_of_tomorrow"}, "names a model that timm has; got 'vit_of_tomorrow'. A newer"),
        ({**CONFIG, "model_args": {**CONFIG["model_args"], "rooms": 3}}, "knows the model_args.*'rooms'"),
        ({**CONFIG, "model_args": [1]}, "model_args of its config.json are tables"),
        ([1], "its config.json holds a table; got list"),
    ],
)
def test_a_config_of_no_model_is_refused(config: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UTuningError, match=said):
        load_backbone(str(write_model(tmp_path / "m", config=config)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "the folder holds config.json; got no such file"),
        (lambda f: (f / "config.json").write_text("{"), "its config.json is readable"),
        (lambda f: (f / "model.safetensors").unlink(), "the folder holds weights, such as model.safetensors; got none"),
        (lambda f: f.rename(f.with_name("gone")), "it is a folder; got no such folder. A timm model has no slash"),
    ],
)
def test_a_folder_without_a_model_is_refused(spoil: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    spoil(folder)
    with pytest.raises(InputError, match=said):
        load_backbone(str(folder))


def test_one_of_several_files_is_not_guessed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"got a\.safetensors, b\.safetensors\. Rename the one"):
        load_backbone(str(folder))


def test_weights_of_another_model_are_refused_and_not_drawn_at_random(cache: Cache) -> None:
    folder = cache.add(FIRST, config={**CONFIG, "model_args": {**CONFIG["model_args"], "depth": 3}})
    with pytest.raises(BackboneError, match=r"blocks\.2\..* missing") as refused:
        load_backbone(NAME)
    assert str(folder / "model.safetensors") in refused.value.where


# What is known of it


def test_where_a_repositorys_weights_come_from() -> None:
    assert origin_of("hf-hub:me/small@v1").repository == "me/small"
    assert not origin_of("hf-hub:me/small").licence
    known = origin_of("hf-hub:timm/vit_base_patch16_224.orig_in21k")
    assert known == origin_of("vit_base_patch16_224.orig_in21k")
    assert not origin_of("./mine").repository


def test_timm_itself_reads_what_is_read_here(tmp_path: Path) -> None:
    """Its own reading of the same folder, which leaves out what does not fit without a word, gives the same model."""
    folder = write_model(tmp_path / "m", 5)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    assert torch.equal(features(load_backbone(f"local-dir:{folder}")), features(theirs))
    assert json.loads((folder / "config.json").read_text())["architecture"] == "vit_tiny_patch16_224"
    assert huggingface_hub.__version__
