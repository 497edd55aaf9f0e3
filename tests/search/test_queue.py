"""Work that machines share: each piece is claimed by one of them, and given back when that one is gone."""

import pytest

from utuning_search.search.leases import LEASE, Watch
from utuning_search.search.queue import MOST_TRIES, Claim, Queue
from utuning_search.testing.pretend import PretendStudy

from .test_leases import Clock

PIECES = {name: {"of": name} for name in ("a", "b", "c")}


@pytest.fixture
def study() -> PretendStudy:
    return PretendStudy()


def queue_of(study: PretendStudy, owner: str) -> Queue:
    return Queue(study.storage, "pretend", owner)


def claimed(queue: Queue) -> Claim:
    found = queue.claim(lambda _: True)
    assert found is not None
    return found


def test_each_piece_is_had_by_one(study: PretendStudy) -> None:
    assert not Queue.exists(study.storage, "pretend")
    one, two = queue_of(study, "one"), queue_of(study, "two")
    assert Queue.exists(study.storage, "pretend")
    one.put(PIECES)
    two.put(PIECES)
    assert len(two.unfinished()) == 3, "it was put twice"
    first, second = claimed(one), claimed(two)
    last = one.claim(lambda piece: piece["of"] == "c")
    assert last is not None
    assert {first.name, second.name, last.name} == set(PIECES)
    assert two.claim(lambda _: True) is None
    one.put(PIECES)
    assert one.claim(lambda _: True) is None, "what somebody has was put again"
    assert first.piece["of"] == first.name
    for claim in (first, second, last):
        one.done(claim)
    assert not one.unfinished()
    assert not one.failed()
    assert [r.state for r in study.scheduler.records()] == [], "the search sees the queue"


def test_what_is_given_back_is_tried_again_and_not_for_ever(study: PretendStudy) -> None:
    queue = queue_of(study, "one")
    queue.put({"a": {}})
    for _ in range(MOST_TRIES + 1):
        queue.give_back(claimed(queue))  # nobody is to blame
    for tries in range(MOST_TRIES):
        found = claimed(queue)
        assert found.tries == tries
        queue.give_back(found, "out of memory")
    assert queue.claim(lambda _: True) is None
    assert queue.failed() == {"a": "out of memory"}
    queue.put({"a": {}})
    assert not queue.unfinished()
    queue.put({"a": {}}, again=True)
    assert claimed(queue).tries == 0
    assert not queue.failed()


def test_what_a_dead_machine_had_is_given_back_once(study: PretendStudy) -> None:
    dead, living, other = (queue_of(study, name) for name in ("dead", "living", "other"))
    clock = Clock()
    for queue in (living, other):
        queue.leases._watch = Watch(clock=clock)
    dead.put({"a": {}})
    theirs = claimed(dead)
    for queue in (living, other):
        queue.reap()
    clock.now += LEASE
    for queue in (living, other):
        queue.reap()
    assert len(living.unfinished()) == 1
    assert claimed(living).tries == 1
    dead.give_back(theirs)
    dead.done(theirs)
    assert len(living.unfinished()) == 1, "who was taken for dead changes something"


def test_a_piece_of_another_version_is_left_alone(study: PretendStudy) -> None:
    queue = queue_of(study, "one")
    queue._study.enqueue_trial({"x": 1})
    assert queue.claim(lambda _: True) is None
    assert not queue.unfinished()
