"""LoRA designs in peft's own format, read back by peft itself."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search.backbone import shape_of
from utuning_search.design import Design, Placement
from utuning_search.errors import InputError
from utuning_search.insertion import TunedModel
from utuning_search.peft_files import check_peft, write_peft
from utuning_search.tuners import AdapterConfig, ExpertsConfig, LoraConfig, NormConfig

from .helpers import CLASSES, tiny_vit, tuned

FITTING = {
    "lora": Design.preset("lora", rank=2).placements,
    "lora-all": Design.preset("lora-all", rank=3).placements,
    "mlae": Design.preset("mlae", rank=2).placements,
    "scaled": (Placement("fc1", LoraConfig(2), scale=0.5), Placement("fc1", LoraConfig(3), scale=4.0)),
    "parts": (
        Placement("q", LoraConfig(1)),
        Placement("k", LoraConfig(2), blocks="last 1"),
        Placement("v", ExpertsConfig(3), scale=2.0),
        Placement("qkv", LoraConfig(2), blocks="first 1"),
    ),
}


@pytest.mark.parametrize("name", FITTING)
def test_peft_gives_the_same_logits(name: str, images: Tensor, tmp_path: Path) -> None:
    backbone = tiny_vit()
    model = tuned(backbone, *FITTING[name], random=True)
    write_peft(model.design, model.tuner_state_dict(), shape_of(backbone), "tiny", tmp_path)
    base = _with_head(backbone)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(loaded(images), model(images), atol=1e-5)
        assert torch.allclose(loaded.merge_and_unload()(images), model(images), atol=1e-4)


def _with_head(backbone: VisionTransformer) -> VisionTransformer:
    base = tiny_vit(num_classes=CLASSES)
    own = base.state_dict()
    base.load_state_dict({**own, **backbone.state_dict()})
    return base


@pytest.mark.parametrize(
    ("placements", "why"),
    [
        ((Placement("mlp", AdapterConfig(2)),), "an adapter is no LoRA"),
        ((Placement("qkv", LoraConfig(2)), Placement("mlp", NormConfig())), "a norm is no LoRA"),
        ((Placement("qkv", LoraConfig(2), "sequential"),), "its form is sequential"),
        ((Placement("qkv", LoraConfig(2), scale="channel"),), "its scale is channel"),
        ((), "a linear probe"),
    ],
)
def test_what_peft_cannot_hold_is_refused_in_a_line(placements: Any, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        check_peft(Design(placements))
    assert len(str(caught.value).splitlines()) == 1


def test_every_parameter_is_written(tmp_path: Path) -> None:
    """As many numbers as the design has, where no part of qkv is padded."""
    backbone = tiny_vit()
    model = TunedModel(backbone, Design.preset("lora-all", rank=2), CLASSES)
    write_peft(model.design, model.tuner_state_dict(), shape_of(backbone), "tiny", tmp_path)
    loaded = peft.PeftModel.from_pretrained(_with_head(backbone), tmp_path, is_trainable=True)
    trained = sum(p.numel() for p in loaded.parameters() if p.requires_grad)
    assert trained == model.design.num_parameters(shape_of(backbone), CLASSES)
