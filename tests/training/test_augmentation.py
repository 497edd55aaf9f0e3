"""Augmentation: crops after padding, mirror images, a function of the seed; tiny images are left as they are."""

import pytest
import torch

from utuning_search.training.augmentation import augmentation, suitable


def test_small_images_are_shifted_by_at_most_one_pixel() -> None:
    images = torch.randint(1, 256, (60, 1, 8, 8), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    found = augmentation(8, 3, mirrored=False)(images)
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    corners = []
    for i in range(60):
        shifts = [
            (y, x) for y in range(3) for x in range(3) if torch.equal(found[i], padded[i, :, y : y + 8, x : x + 8])
        ]
        assert len(shifts) == 1
        corners += shifts
    assert len(set(corners)) == 9
    assert torch.equal(augmentation(8, 3, mirrored=False)(images), found)
    assert not torch.equal(augmentation(8, 4, mirrored=False)(images), found)


def test_larger_images_are_cropped_after_padding_by_an_eighth_and_mirrored() -> None:
    image = torch.randint(1, 256, (1, 3, 16, 16), dtype=torch.uint8)
    padded = torch.nn.functional.pad(image[0], (2, 2, 2, 2))
    crops = {(y, x, m) for y in range(5) for x in range(5) for m in (False, True)}
    pictures = {
        (y, x, m): padded[:, y : y + 16, x : x + 16].flip(-1) if m else padded[:, y : y + 16, x : x + 16]
        for y, x, m in crops
    }
    augment, seen = augmentation(16, 0, mirrored=True), set()
    for picture in augment(image.expand(400, -1, -1, -1)):
        (which,) = [c for c, p in pictures.items() if torch.equal(p, picture)]
        seen.add(which)
    assert seen == crops


@pytest.mark.parametrize(("size", "crops"), [(8, 0), (16, 1)])
def test_tiny_images_are_left_as_they_are(size: int, crops: int) -> None:
    """A pixel is much of an 8-pixel digit."""
    found = suitable(size, 3, mirrored=True)
    assert (found is not None) == bool(crops)
    if found is not None:
        images = torch.randint(1, 256, (9, 1, size, size), dtype=torch.uint8)
        assert torch.equal(found(images), augmentation(size, 3, mirrored=True)(images))
