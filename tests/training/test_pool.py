"""Pools of workers: in this process or in others, a job gives the same, and jobs fail one by one."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from utuning_search.designs.design import Design, Placement
from utuning_search.training.pool import Done, Event, Failed, InlinePool, Job, Pool, ProcessPool, Rung, Saved
from utuning_search.training.proxy import Paused, ProxyTrainer
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


def check_pause(pool: Pool, trainer: ProxyTrainer, folder: Path) -> None:
    """A trial that waits at a rung when the pool is paused is answered, trained to its epoch's end and given back."""
    reports, result = evaluated(trainer, JOB.design)
    pool.start(0, JOB)
    assert next_event(pool) == Rung(reports[0])
    pool.pause()
    pool.answer(0, True)
    paused = next_event(pool)
    assert isinstance(paused, Paused)
    assert paused.checkpoint is not None
    assert paused.checkpoint.epoch == reports[0].epoch
    file = folder / "checkpoint"
    file.write_bytes(paused.checkpoint.content)
    *rungs, done = run_job(InlinePool(trainer), replace(JOB, begun=file))
    assert rungs == [Rung(r) for r in reports[1:]]
    assert isinstance(done, Done)
    assert done.result.weights == result.weights


def next_event(pool: Pool) -> Event:
    events: list[tuple[int, Event]] = []
    while not events:
        events = pool.wait(0.5)
    ((_, event),) = events
    return event


def test_inline_pool_pauses(trainer: ProxyTrainer, tmp_path: Path) -> None:
    check_pause(InlinePool(trainer), trainer, tmp_path)
    asked = [False]
    pool = InlinePool(trainer, lambda: asked[0])
    pool.start(0, JOB)
    assert isinstance(next_event(pool), Rung)
    asked[0] = True
    pool.answer(0, True)
    assert isinstance(next_event(pool), Paused)
    assert pool.wait(0) == []


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_without_a_checkpoint_that_can_be_read_a_job_begins_anew(
    content: bytes | None, trainer: ProxyTrainer, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint"
    if content is not None:
        file.write_bytes(content)
    reports, _ = evaluated(trainer, JOB.design)
    *rungs, _ = run_job(InlinePool(trainer), replace(JOB, begun=file))
    assert rungs == [Rung(r) for r in reports]


def test_checkpoints_of_a_running_trial_are_told(trainer: ProxyTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utuning_search.training.pool.SAVED", 0.0)
    pool = InlinePool(trainer)
    pool.start(0, JOB)
    assert isinstance(next_event(pool), Rung)
    pool.answer(0, True)
    saved = [next_event(pool) for _ in range(2)]
    assert [e.checkpoint.epoch for e in saved if isinstance(e, Saved)] == [1, 2]


@pytest.mark.usefixtures("warm_processes")
def test_process_pool(trainer: ProxyTrainer, tmp_path: Path) -> None:
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
        (process,) = multiprocessing.active_children()
        os.kill(process.pid or 0, signal.SIGTERM)  # as schedulers do that send it to all processes
        check_pause(pool, trainer, tmp_path)
        pool.start(0, JOB)
        assert next_event(pool) == Paused(None), "a job that came too late is trained"
    finally:
        pool.close()
    assert not multiprocessing.active_children()
