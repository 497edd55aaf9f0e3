"""Seeds of random streams."""

import hashlib


def derive_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2^31) for one purpose, unrelated to those for others."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big") >> 1
