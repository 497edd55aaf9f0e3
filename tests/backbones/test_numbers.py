"""Checkpoints whose tensors have the right names and shapes, and numbers that nothing is computed with."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from utuning_search.backbones.loading import load_backbone
from utuning_search.backbones.numbers import check_numbers
from utuning_search.common.errors import BackboneError

from ..helpers import randomise, tiny_vit

NAME, SIZE = "test_vit", 32
QKV, POSITIONS = "blocks.1.attn.qkv.weight", "pos_embed"


def broken(tensor: Tensor, how: str) -> Tensor:
    if how in ("nan", "inf", "overflown"):
        tensor = tensor.half() if how == "overflown" else tensor.clone()
        tensor.view(-1)[3] = {"nan": float("nan"), "inf": -float("inf"), "overflown": 1e30}[how]
        return tensor
    dtypes = {"int8": torch.int8, "int64": torch.int64, "bool": torch.bool, "complex": torch.complex64}
    return tensor.to(dtypes[how])


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    model = timm.create_model(NAME, pretrained=False, num_classes=3, img_size=SIZE)
    return {k: v.detach() for k, v in randomise(model, seed=4).state_dict().items()}


@pytest.mark.parametrize("name", [QKV, POSITIONS, "norm.bias"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "has 1 values that are not finite"),
        ("inf", "has 1 values that are not finite"),
        ("overflown", "has 1 values that are not finite"),
        ("int8", "is int8"),
        ("int64", "is int64"),
        ("bool", "is bool"),
        ("complex", "is complex64"),
    ],
)
def test_numbers_of_no_network_are_refused_by_tensor(
    name: str, how: str, said: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    tensors = {**state, name: broken(state[name], how)}
    if how == "complex":  # which safetensors before 0.7 does not write
        path = tmp_path / "w.pth"
        torch.save(tensors, path)
    else:
        path = tmp_path / "w.safetensors"
        safetensors.torch.save_file(tensors, path)
    with pytest.raises(BackboneError, match=rf"{path.name}: its tensors are finite floats; got {name} {said}\. "):
        load_backbone(NAME, path, image_size=SIZE)


def test_of_a_whole_quantised_file_some_are_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({k: v.to(torch.int8) for k, v in state.items()}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"blocks\.0\.\S+ is int8; .*; and \d+ more\."):
        load_backbone(NAME, tmp_path / "w.pth", image_size=SIZE)


def test_a_head_that_is_dropped_may_be_anything(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({**state, "head.weight": torch.full_like(state["head.weight"], float("nan"))}, path)
    load_backbone(NAME, path, image_size=SIZE)


@pytest.mark.parametrize("dtype", ["int16", "bool", "complex64", "float16", "float64"])
def test_arrays_of_an_npz_are_judged_as_they_are_stored(dtype: str, tmp_path: Path) -> None:
    path, model = tmp_path / "w.npz", tiny_vit()
    arrays = {"embedding/kernel": np.ones((2, 2), dtype), "opt/step": np.array(7), "head/kernel": np.ones(2, "int8")}
    np.savez(path, **arrays)
    if dtype.startswith("float"):
        check_numbers(model, model.state_dict(), path)
    else:
        with pytest.raises(BackboneError, match=rf"got embedding/kernel is {dtype}\."):
            check_numbers(model, model.state_dict(), path)
