"""Pools of workers: in this process or in others, a job gives the same, and jobs fail one by one."""

import multiprocessing
from collections.abc import Iterator

import pytest

from utuning_search.designs.design import Design, Placement
from utuning_search.training.pool import Done, Event, Failed, InlinePool, Job, Pool, ProcessPool, Rung
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime
from utuning_search.training.workers import Lost
from utuning_search.tuners import PromptConfig

from .helpers import DEPTH, DESIGNS, SEED, TASK, evaluated

EXPLODES = Design((Placement("block", PromptConfig(1, "parallel"), "parallel", 1e38),))


def run_job(pool: Pool, job: Job, patience: int = 240) -> Iterator[Event]:
    """The events of one job on worker 0, each rung answered with go on."""
    pool.start(0, job)
    for _ in range(patience):
        for worker, event in pool.wait(0.5):
            assert worker == 0
            yield event
            if not isinstance(event, Rung):
                return
            pool.answer(0, True)
    raise AssertionError("no event came")


JOB = Job(DESIGNS["last-half"].resolve(DEPTH), SEED)
BAD_JOB = Job(EXPLODES.resolve(DEPTH), SEED)


def check_pool(pool: Pool, trainer: ProxyTrainer) -> None:
    reports, result = evaluated(trainer, JOB.design)
    for _ in range(2):
        *rungs, done = run_job(pool, JOB)
        assert rungs == [Rung(r) for r in reports]
        assert isinstance(done, Done)
        assert (done.result.accuracy, done.result.weights) == (result.accuracy, result.weights)
    (failed,) = run_job(pool, BAD_JOB)
    assert isinstance(failed, Failed)
    assert "the loss is finite" in failed.reason
    pool.start(0, JOB)
    events: list[tuple[int, Event]] = []
    while not events:
        events = pool.wait(0.5)
    assert events == [(0, Rung(reports[0]))]
    pool.answer(0, False)
    assert pool.wait(0) == [], "a pruned trial goes on"
    assert isinstance(list(run_job(pool, JOB))[-1], Done), "the worker of a pruned trial is not free again"


def test_inline_pool(trainer: ProxyTrainer) -> None:
    pool = InlinePool(trainer)
    assert pool.size == 1
    assert pool.wait(0) == []
    check_pool(pool, trainer)
    pool.close()
    assert pool.wait(0) == []


@pytest.mark.usefixtures("warm_processes")
def test_process_pool(trainer: ProxyTrainer) -> None:
    pool = ProcessPool(TASK, [Runtime()])
    try:
        assert pool.size == 1
        check_pool(pool, trainer)
        (process,) = multiprocessing.active_children()
        pool.start(0, JOB)
        process.kill()
        lost: list[Event] = []
        while not any(isinstance(e, Lost) for e in lost):
            lost += [event for _, event in pool.wait(0.5)]
        assert "killed by SIGKILL" in lost[-1].reason  # type: ignore[union-attr]  # the last one is Lost
        assert isinstance(list(run_job(pool, JOB))[-1], Done), "the lost worker was not replaced"
    finally:
        pool.close()
    assert not multiprocessing.active_children()
