"""What a run says that it takes, before it takes it."""

from types import SimpleNamespace
from typing import Any

import torch

from utuning_search.search.needs import Needs, needs_of
from utuning_search.training.feature_cache import BUDGET
from utuning_search.training.task import Task
from utuning_search.tuners import BackboneShape, Stage

TOKENS, DIM, DEPTH = 6 * 6 + 1, 192, 12


def split(count: int, *, file: str = "images.bin") -> Any:
    images = torch.zeros(1, 3, 96, 96, dtype=torch.uint8).expand(count, -1, -1, -1)
    return SimpleNamespace(images=images, labels=torch.zeros(count), file=file)


SHAPE = BackboneShape(DIM, DEPTH, 3, 64, 768, 768, parameters=1, grid=(6, 6), prefix_tokens=1)


def needs(proxy: int, validation: int, shape: BackboneShape = SHAPE, **more: Any) -> Needs:
    data = SimpleNamespace(proxy=split(proxy, **more), validation=split(validation, **more))
    context: Any = SimpleNamespace(data=data, shape=shape)
    return needs_of(Task.load("digits"), context)  # which has no mirror images


def test_needs_are_counted() -> None:
    found = needs(200, 100)
    assert found == Needs(images=300 * 3 * 96 * 96, tokens=(DEPTH + 1) * 300 * TOKENS * DIM * 4)
    assert f"{found}" == (
        "Needs decoded images 7.9 MiB on disk, shared by all workers; "
        "tokens of frozen blocks up to 105.7 MiB of memory a worker"
    )
    assert needs(200, 100, file="").images == 0, "they are in memory at once"


def test_the_widest_block_counts() -> None:
    stages = (Stage(1, 8, 1, 8, 8, 8, (8, 8)), Stage(1, 16, 1, 16, 16, 16, (4, 4)))
    shape = BackboneShape(16, 2, 1, 16, 16, 16, parameters=1, grid=(4, 4), prefix_tokens=0, stages=stages)
    assert needs(200, 100, shape).tokens == 3 * 300 * 64 * 8 * 4


def test_tokens_keep_to_their_budget_but_hold_what_one_training_reads() -> None:
    assert needs(10_000, 1000).tokens == BUDGET
    assert needs(100_000, 1000).tokens == 101_000 * TOKENS * DIM * 4 > BUDGET
    assert "2.0 GiB of memory" in f"{needs(10_000, 1000)}"
