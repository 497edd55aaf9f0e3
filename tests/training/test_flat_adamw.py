"""AdamW on joined parameters: what torch's does to each of them."""

import torch
from torch import nn

from utuning_search.training.flat_adamw import FlatAdamW


def parameters() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((3, 4), (5,), (), (2, 2, 3), (7,))
    return [nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]


def test_parameters_change_as_by_torch() -> None:
    """One of them never gets a gradient, and one stands between others of its kind."""
    ours, theirs, draw = parameters(), parameters(), torch.Generator().manual_seed(2)
    unused = 4
    flat = FlatAdamW(ours, 0.1, 0.5)
    groups = [
        {"params": [p for p in theirs if p.ndim > 1], "weight_decay": 0.5},
        {"params": [p for p in theirs if p.ndim <= 1], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(groups, lr=0.1)
    for step in range(4):
        flat.learning_rate = 0.1 / (step + 1)
        for group in plain.param_groups:
            group["lr"] = 0.1 / (step + 1)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = b.grad = None if i == unused else torch.randn(a.shape, generator=draw)
        flat.step()
        plain.step()
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert torch.equal(ours[unused], parameters()[unused])


def test_parameters_stay_the_objects_that_a_model_has() -> None:
    model = nn.Linear(3, 2)
    optimizer = FlatAdamW(list(model.parameters()), 0.1, 0.0)
    model(torch.ones(1, 3)).sum().backward()
    before = model.weight.detach().clone()
    optimizer.step()
    assert model.weight.shape == (2, 3)
    assert not torch.equal(model.weight, before)
    assert torch.equal(model.state_dict()["weight"], model.weight)
