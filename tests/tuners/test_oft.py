"""What is traced for an export solves for a rotation as torch does."""

import torch

from utuning_search.tuners.oft import eliminated


def test_elimination_by_hand_is_a_rotation() -> None:
    half = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(1)).double().triu(1)
    skew, eye = 3 * (half - half.transpose(1, 2)), torch.eye(7).double()
    turn = eliminated(eye + skew, eye - skew)
    assert torch.allclose(turn, torch.linalg.solve(eye + skew, eye - skew), rtol=0, atol=1e-12)
    assert torch.allclose(turn @ turn.transpose(1, 2), eye.expand(3, 7, 7), rtol=0, atol=1e-12)
    assert torch.equal(eliminated(eye.expand(2, 7, 7), eye.expand(2, 7, 7)), eye.expand(2, 7, 7))
