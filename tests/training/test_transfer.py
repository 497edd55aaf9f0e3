"""Moving data to a device changes nothing of them."""

import pytest
import torch

from utuning_search.training import transfer
from utuning_search.training.transfer import to_device


def test_data_go_to_a_gpu_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the same code as on a GPU, but for the pinning."""
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(len(self)) or self)
    monkeypatch.setattr(transfer, "PINNED", 100)
    images = torch.randint(0, 256, (23, 1, 3, 3), dtype=torch.uint8)
    assert torch.equal(transfer._through_pinned(images, "cpu"), images)
    assert pinned == [11, 11, 1]
    pinned.clear()
    assert torch.equal(transfer._through_pinned(images[:0], "cpu"), images[:0])
    monkeypatch.setattr(transfer, "PINNED", 1)  # less than a row
    assert torch.equal(transfer._through_pinned(images, "cpu"), images)
    assert to_device(images, "cpu") is images
