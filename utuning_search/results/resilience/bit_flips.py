"""Random bit flips in a tuner's weights, as bad memory or a bad transfer leaves them."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

RATES = (1e-6, 1e-5, 1e-4)  # of each bit
BITS = 32


def flipped(tensors: Mapping[str, Tensor], rate: float, seed: int) -> dict[str, Tensor]:
    """The tensors with each bit flipped by chance, independently; a function of the seed.

    Args:
        tensors: float32, by name; they stay as they are.
        rate: Chance of each bit, from 0 to 1.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for name, tensor in sorted(tensors.items()):
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name}: float32 wanted, got {tensor.dtype}")
        words = tensor.detach().cpu().contiguous().numpy().copy().view(np.uint32).reshape(-1)
        bits = words.size * BITS
        # As many as independent flips would be, at places that differ.
        places = rng.choice(bits, size=rng.binomial(bits, rate), replace=False, shuffle=False)
        np.bitwise_xor.at(words, places // BITS, np.left_shift(np.uint32(1), (places % BITS).astype(np.uint32)))
        found[name] = torch.from_numpy(words.view(np.float32)).reshape(tensor.shape)
    return found
