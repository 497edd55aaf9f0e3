"""LoRA, its experts and FacT begin with the same draws as ever, as recorded trials do; FacT at widths of gated MLPs."""

import pytest
import torch
from torch import nn

from utuning_search.designs.design import Design
from utuning_search.tuners import BackboneShape, ExpertsConfig, FactConfig, LoraConfig, Site
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


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 21), (21, 8), (8, 24)])
def test_widths_that_are_no_multiple_are_rounded_up(inputs: int, outputs: int) -> None:
    """Of eva02_large fc1 is (1024, 5460): blocks of their greatest common divisor, 4, would be 89 M numbers a map."""
    torch.manual_seed(4)
    site, config = Site(inputs, outputs, 2, 4), FactConfig(2)
    module, shared = config.build(site), config.build_shared(site)
    for parameter in (*module.parameters(), *shared.parameters()):
        nn.init.normal_(parameter)
    module.connect(shared)
    x = torch.randn(2, 3, inputs)
    matrix, constant = module.affine()
    assert constant is None
    assert matrix.shape == (outputs, inputs)
    assert torch.allclose(module(x, nn.Identity()), x @ matrix.T, atol=1e-5)
    assert module.core.numel() == config.num_parameters(site) == 2 * 2 * 3
    assert matrix.count_nonzero() == inputs * outputs, "what is cut off is too much"


def test_of_a_gated_mlp_it_is_as_small_as_of_a_plain_one() -> None:
    heads = {"dim": 1024, "depth": 24, "num_heads": 16, "head_dim": 64, "parameters": 303_000_000}
    gated = BackboneShape(**heads, hidden=5460, hidden_in=2730)
    plain = BackboneShape(**heads, hidden=4096, hidden_in=4096)
    fact = Design.preset("fact")
    assert fact.num_parameters(gated) - fact.num_parameters(plain) == 24 * 16**2 * (6 - 4 + 3 - 4)
