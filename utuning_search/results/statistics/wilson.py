"""The sampling error of one accuracy on a number of images."""

import math
from statistics import NormalDist

from utuning_search.common.errors import InputError

LEVEL = 0.95


def wilson(accuracy: float, images: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share: what the accuracy on all such images may be, given that on some.

    It knows of the choice of images only, not of the luck of one training. Unlike accuracy ± z se it holds its level
    near 0 and 1 (Wilson 1927; Brown, Cai and DasGupta 2001).

    Args:
        accuracy: In [0, 1].
        images: That it was measured on, at least 1.
        level: Of the interval.

    Raises:
        InputError: A number out of range.
    """
    if not 0 <= accuracy <= 1 or images < 1:
        raise InputError("interval", "accuracy is in [0, 1] and images are at least 1", f"{accuracy} of {images}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (accuracy + z * z / (2 * images)) / (1 + z * z / images)
    spread = accuracy * (1 - accuracy) / images + z * z / (4 * images * images)
    half = z * math.sqrt(spread) / (1 + z * z / images)
    return max(middle - half, 0.0), min(middle + half, 1.0)
