"""LoRA, its experts and FacT begin with the same draws as ever: recorded trials are repeated from their seeds."""

import pytest
import torch
from torch import nn

from utuning_search.tuners import ExpertsConfig, FactConfig, LoraConfig, Site
from utuning_search.tuners.low_rank import LowRankConfig

SITE = Site(12, 36, 2, 6)


def linear(inputs: int, outputs: int) -> torch.Tensor:
    """The weight of a fresh linear layer, from the global stream; its bias is not drawn."""
    return nn.Linear(inputs, outputs, bias=False).weight


@pytest.mark.parametrize("config", [LoraConfig(3), ExpertsConfig(3, 0.25)])
def test_a_is_drawn_first_and_as_a_linear_layer_is(config: LowRankConfig) -> None:
    torch.manual_seed(4)
    wanted, after = linear(12, 3), int(torch.randint(2**31, ()))
    torch.manual_seed(4)
    module = config.build(SITE)
    assert torch.equal(module.get_parameter("a"), wanted)
    assert not module.get_parameter("b").any()
    assert list(module.state_dict()) == ["a", "b"]
    if isinstance(config, LoraConfig):
        assert int(torch.randint(2**31, ())) == after, "LoRA draws more than a"


def test_which_experts_are_left_out_is_drawn_after_a() -> None:
    torch.manual_seed(4)
    linear(12, 8)
    stream = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    torch.manual_seed(4)
    module = ExpertsConfig(8, 0.5).build(SITE)
    module.get_parameter("b").data.copy_(torch.eye(36, 8))
    for _ in range(3):
        kept = torch.rand(8, generator=stream) >= 0.5
        seen = module(torch.ones(1, 1, 12), nn.Identity())[0, 0, :8] != 0
        assert torch.equal(seen, kept)


def test_shared_factors_and_cores_are_drawn_alike() -> None:
    torch.manual_seed(4)
    wanted = linear(2, 6), linear(12, 2)
    torch.manual_seed(4)
    config = FactConfig(2)
    core = config.build(SITE).get_parameter("core")
    assert torch.equal(core, wanted[0])
    assert torch.equal(config.build_shared(SITE).get_parameter("u"), wanted[1])
