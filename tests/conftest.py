"""What every test gets: one thread, and small backbones."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from xdist.scheduler import WorkStealingScheduling

from utuning_search.backbones.loading import freeze
from utuning_search.training import workers

from .helpers import IMAGE, same_snapshot, snapshot, tiny_vit

if TYPE_CHECKING:
    from .postgres import Server

# No clock and no stored examples decide an outcome.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")
torch.set_num_threads(1)
# Of the processes that tests start too: on busy cores two threads wait for each other, and a wait takes a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in the background with SIGINT ignored; tests of Ctrl-C would wait for ever.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WorkStealingScheduling:
    """An idle process takes over what a busy one has not begun: a few tests take half a minute each."""
    return WorkStealingScheduling(config, log)


@pytest.fixture
def make_vit() -> Callable[..., VisionTransformer]:
    """A factory of small vision transformers with weights that matter; see `tiny_vit`."""
    return tiny_vit


@pytest.fixture
def vit() -> VisionTransformer:
    """A small vision transformer, in evaluation mode, trainable."""
    return tiny_vit()


@pytest.fixture(scope="module")
def shared() -> Iterator[VisionTransformer]:
    """One frozen backbone for the tests of a module, which have to leave it as it was."""
    yield from _unchanged(freeze(tiny_vit()))


@pytest.fixture(scope="module")
def shared64() -> Iterator[VisionTransformer]:
    """The same in double precision, and pooled by average: every token of every block matters."""
    yield from _unchanged(freeze(tiny_vit(global_pool="avg").double()))


def _unchanged(backbone: VisionTransformer) -> Iterator[VisionTransformer]:
    before = snapshot(backbone)
    yield backbone
    assert same_snapshot(snapshot(backbone), before), "a test changed the shared backbone"


@pytest.fixture
def images() -> Tensor:
    """Four normalised images for `tiny_vit`."""
    return torch.randn(4, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="session")
def postgres() -> Iterator["Server"]:
    """A PostgreSQL server; a test that uses it is skipped where there is none."""
    from .postgres import server  # its driver may not be there

    yield from server()


@pytest.fixture
def warm_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are copies of an interpreter that has imported all that any of them needs, on every system.

    For tests of what processes do; how they start and what they are spared is tested on those that users get.
    """
    multiprocessing.set_forkserver_preload(["utuning_search.training.pool", "utuning_search.results.confirm"])
    monkeypatch.setattr(workers, "START", "forkserver")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test draws from its own fresh stream, whatever ran before."""
    torch.default_generator.manual_seed(0)
