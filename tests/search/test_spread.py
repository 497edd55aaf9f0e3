"""Finals that are spread over machines: what a confirmation asks for, others train, and the numbers are the same."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from utuning_search.common.errors import StudyError
from utuning_search.results import spread
from utuning_search.results.confirm import confirm
from utuning_search.results.final_training import Trained
from utuning_search.results.spread import help_confirm
from utuning_search.search.budget import Budget
from utuning_search.search.queue import Queue
from utuning_search.search.study import Study
from utuning_search.training.workers import Lost

from .hosts import NAME, WORKER, Host

HOW: dict[str, Any] = {"top": 2, "seeds": 2, "epochs": 1, "workers": 0}


@pytest.fixture
def shared(database: str, hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(spread, "LOOK", 0.05)
    monkeypatch.setattr("utuning_search.training.full.TIMED_SECONDS", 0.0)
    one, _ = hosts
    made = (str(one.folder / "mini.toml"), str(one.folder / "tiny.toml"))
    store = str(tmp_path / "store")
    study = Study.create(*made, name=NAME, studies_dir=one.folder / "studies", storage=database, artifacts=store)
    study.remember(budget={"trials": 2})
    assert study.run(Budget(trials=2), workers=0)
    return study


def joined(host: Host, database: str) -> Study:
    return Study.load(NAME, studies_dir=host.folder / "studies", storage=database)


def outcomes(folder: Path) -> dict[str, tuple[object, ...]]:
    """What finals gave, without what is measured anew each time."""
    found = {}
    for path in sorted((folder / "finals").glob("*epochs*.json")):
        table = json.loads(path.read_text())
        beside = [path.with_suffix(end).read_bytes() for end in (".safetensors", ".npy")][table["seed"] > 0 :]
        found[path.name] = (table["accuracy"], table["others"], *beside)
    return found


@pytest.fixture
def alone(shared: Study) -> dict[str, tuple[object, ...]]:
    """The same finals of one machine: of a study without a store."""
    study = Study.load(NAME, studies_dir=shared.folder.parent, storage=shared.url)
    study.artifacts = None
    confirm(study, **HOW)
    found = outcomes(study.folder)
    shutil.rmtree(study.folder / "finals")
    assert len(found) == 4
    return found


def test_what_a_confirmation_that_was_stopped_had_asked_for_another_machine_trains(
    shared: Study, alone: dict[str, tuple[object, ...]], hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        confirm(shared, on_progress=stop, **HOW)
    queue = Queue(shared.storage, NAME, "looks")
    assert len(queue.unfinished()) == 3, "what was claimed was not given back"
    code, out, err = hosts[1].here(*WORKER)
    assert (code, err) == (0, "")
    assert "Helped to confirm: 3 trainings." in out
    assert not queue.unfinished()
    monkeypatch.setattr(spread, "run_each", lambda *_: pytest.fail("it is trained again"))
    told: list[int] = []
    found = confirm(shared, on_progress=lambda progress: told.append(progress.done), **HOW)
    assert len(found.finals) == 2
    assert outcomes(shared.folder) == alone
    assert hosts[1].here(*WORKER)[1].count("Helped") == 0


def test_who_confirms_waits_for_those_who_help_and_takes_over_from_the_dead(
    shared: Study,
    alone: dict[str, tuple[object, ...]],
    database: str,
    hosts: tuple[Host, Host],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One machine claims a training and falls silent; another trains one while this one does."""
    other, real, began = joined(hosts[1], database), spread.run_each, [False]

    def run_each(work: Any, jobs: Any, count: int) -> Iterator[tuple[int, Trained | Lost]]:
        if not began[0]:
            began[0] = True
            assert Queue(other.storage, NAME, "dead").claim(lambda _: True) is not None
            monkeypatch.setattr(Queue, "reap", lambda _: None)
            monkeypatch.setattr(Queue, "unfinished", first_only(Queue.unfinished))
            assert help_confirm(other, workers=0) >= 1
            monkeypatch.undo()
            monkeypatch.setattr(spread, "LOOK", 0.05)
            monkeypatch.setattr("utuning_search.search.leases.LEASE", 1.0)
        yield from real(work, jobs, count)

    monkeypatch.setattr(spread, "run_each", run_each)
    told: list[int] = []
    confirm(shared, on_progress=lambda progress: told.append(progress.done), **HOW)
    assert outcomes(shared.folder) == alone
    assert told == [1, 2, 3, 4]


def first_only(real: Any) -> Any:
    """A look at the queue that finds nothing from the third time on."""
    looks: list[None] = []

    def unfinished(queue: Queue) -> Any:
        looks.append(None)
        return real(queue) if len(looks) <= 2 else []

    return unfinished


def queue_of(study: Study) -> list[dict[str, Any]]:
    """Every piece that was ever asked for."""
    beside = optuna.load_study(study_name=f"{NAME}/finals", storage=study.storage)
    return list({t.user_attrs["piece"]["name"]: t.user_attrs["piece"] for t in beside.get_trials()}.values())


def test_a_training_that_is_lost_too_often_is_told(shared: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    real = spread.run_each

    def run_each(work: Any, jobs: Any, count: int) -> Iterator[tuple[int, Trained | Lost]]:
        del work, count
        for index, _ in enumerate(jobs):
            yield index, Lost("its worker process was killed")

    monkeypatch.setattr(spread, "run_each", run_each)
    queue = Queue(shared.storage, NAME, "looks")
    with pytest.raises(StudyError, match=r"each one is trained to its end.*its worker process was killed"):
        confirm(shared, **HOW)
    assert not queue.unfinished()
    pieces = {name: table for table in map(dict, queue_of(shared)) if (name := str(table.pop("name")))}
    queue.put(pieces, again=True)
    with pytest.raises(StudyError, match="3 lost in a row; the last: its worker process was killed"):
        help_confirm(shared, workers=0)
    assert len(queue.unfinished()) == len(pieces), "a machine that is broken spoils it for the others"
    monkeypatch.setattr(spread, "run_each", real)
    assert len(confirm(shared, **HOW).finals) == 2, "the next confirmation does not try again"


def test_other_images_than_those_of_the_confirmation_are_refused(shared: Study) -> None:
    Queue(shared.storage, NAME, "one").put({"x": {"metric": "accuracy", "data": "another"}})
    with pytest.raises(StudyError, match="the digest of training and test images is another"):
        help_confirm(shared, workers=0)
    assert not list((shared.folder / "finals").glob("*"))


def test_without_a_confirmation_there_is_nothing_to_help_with(shared: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no test image is opened."""
    monkeypatch.setattr(spread, "prepare", lambda *_: pytest.fail("it opens test images"))
    assert help_confirm(shared, workers=0) == 0
    Queue(shared.storage, NAME, "one")
    assert help_confirm(shared, workers=0) == 0
    shared.artifacts = None
    assert help_confirm(shared, workers=0) == 0
