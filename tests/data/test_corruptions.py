"""Corruptions: bytes of the same shape, worse from severity to severity, a function of the seed."""

import pytest
import torch
from torch import Tensor

from utuning_search.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted

SHAPES = [(1, 8), (3, 32), (1, 224), (3, 96)]


def pictures(channels: int, size: int, count: int = 3) -> Tensor:
    """Smooth waves, so that noise and blur are seen."""
    places = torch.linspace(0, 12, size)
    waves = torch.stack([(places[:, None] * (i + 1) / 2).sin() * places[None].cos() for i in range(count * channels)])
    return (127 + 110 * waves).to(torch.uint8).view(count, channels, size, size)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_images_stay_images_and_get_worse(name: str, channels: int, size: int) -> None:
    images = pictures(channels, size)
    before = images.clone()
    found = [corrupted(images, name, severity, 0) for severity in SEVERITIES]
    assert torch.equal(images, before)
    assert all(x.dtype == torch.uint8 and x.shape == images.shape for x in found)
    apart = [float((x.float() - images.float()).abs().mean()) for x in found]
    if size > 8 or name != "gaussian_blur":  # which takes a share of the side
        assert 0 < apart[0] < apart[1] < apart[2]


def test_only_noise_is_drawn_and_by_seed() -> None:
    images = pictures(3, 32)
    for name in CORRUPTIONS:
        one, same, other = (corrupted(images, name, 2, seed) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert torch.equal(one, other) is (name != "gaussian_noise")


def test_levels_are_those_of_imagenet_c() -> None:
    grey = torch.full((1, 1, 64, 64), 128, dtype=torch.uint8)
    noisy = corrupted(grey, "gaussian_noise", 1, 0).float()
    assert float(noisy.std()) == pytest.approx(255 * 0.08, rel=0.05)
    assert int(corrupted(grey, "brightness", 2, 0)[0, 0, 0, 0]) == round(128 + 255 * 0.3)
    halves = torch.cat([grey - 100, grey + 100], dim=3)
    flat = corrupted(halves, "contrast", 3, 0).float()
    assert float(flat.max() - flat.min()) == pytest.approx(200 * 0.05, abs=1)
