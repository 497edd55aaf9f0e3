"""Studies: what is tried, what is reused, what is pruned, and that being stopped at any moment changes nothing."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend
from PIL import Image

from utuning_search.common.errors import InputError, StudyError
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.space import Space
from utuning_search.search.budget import STALE, Budget
from utuning_search.search.history import Peers
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.runner import Snapshot
from utuning_search.search.running import Next, Running
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pruners import rung_of
from utuning_search.training.proxy import Report, Result
from utuning_search.training.task import Task

optuna.logging.set_verbosity(optuna.logging.ERROR)

TRIALS = 16
RUNG, EPOCHS = 1, 3
TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
proxy = 100
validation = 60
[training]
epochs = 3
batch_size = 50
rungs = [1]
"""
SPACE = """
name = "mini"
presets = ["linear-probe", "adapter"]
learning_rate = [0.005, 0.0001, 0.02]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter", "norm"]
form = ["sequential", "parallel"]
rank = [1, 10]
blocks = ["all", "last 1"]
"""
FIVE_DESIGNS = """
name = "five"
presets = ["linear-probe"]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "norm", "bias"]
blocks = ["all", "last 1"]
"""
COORDINATES = ("key", "design", "state", "preset", "parameters", "accuracy", "epochs", "reason")
SECRET = "s3cr3t-w0rd"
STORAGE_URLS = (
    "postgresql+psycopg://user:s3cr3t-w0rd@127.0.0.1:1/studies",
    "postgresql+psycopg://user:at@s3cr3t-w0rd@127.0.0.1:1/studies",
    "postgresql+psycopg://user:a s3cr3t-w0rd@127.0.0.1:1/studies",
    "postgresql+psycopg://127.0.0.1:1/studies?user=user&password=at@s3cr3t-w0rd",
    "postgresql+psycopg:///studies?host=127.0.0.1&port=1&password=s3cr3t-w0rd&s3cr3t-w0rd=1",
    "postgresql://user:slash/s3cr3t-w0rd@127.0.0.1:1/studies",
    "mysql://user:s3cr3t-w0rd@127.0.0.1:1/studies",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3Ds3cr3t-w0rd%3BSERVER%3Dhost",
)


class Inputs:
    """A folder with one task and some spaces, and studies made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in {"task": TASK, "mini": SPACE, "five": FIVE_DESIGNS}.items():
            (folder / f"{name}.toml").write_text(text)

    def write(self, name: str, text: str) -> str:
        (self.folder / f"{name}.toml").write_text(text)
        return str(self.folder / f"{name}.toml")

    def create(self, name: str, space: str = "mini", **options: object) -> Study:
        path = str(self.folder / f"{space}.toml")
        task = options.pop("task", str(self.folder / "task.toml"))
        options.setdefault("sampler", "tpe")  # which proposes some designs again; the default avoids that
        options.setdefault("pruner", "pareto")  # whose peers the tests below count
        return Study.create(path, task, name=name, studies_dir=self.folder / "studies", **options)  # type: ignore[arg-type]

    def load(self, name: str, **options: object) -> Study:
        return Study.load(name, studies_dir=self.folder / "studies", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def finished(inputs: Inputs) -> Study:
    """A study that was never stopped; tests read it only."""
    study = inputs.create("finished")
    assert study.run(Budget(trials=TRIALS), workers=0)
    return study


def outcomes(study: Study) -> list[tuple[object, ...]]:
    """Finished trials in order. Numbers may differ: interrupted trials have one too."""
    return [
        (*(getattr(r, c) for c in COORDINATES), dict(r.rungs), r.reused is not None)
        for r in study.trials()
        if r.settled
    ]


def check_reuse(records: list[TrialRecord]) -> None:
    """No design is trained twice, and a reused trial is what the first one was."""
    trained = [r for r in records if r.settled and r.reused is None]
    assert len({r.key for r in trained}) == len(trained)
    by_number = {r.number: r for r in trained}
    for r in records:
        if r.reused is not None:
            first = by_number[r.reused]
            assert (r.epochs, r.seconds) == (0, 0)
            for name in ("key", "design", "state", "parameters", "accuracy", "rungs", "reason"):
                assert getattr(r, name) == getattr(first, name), name


def stop_after(events: int) -> Callable[[Snapshot], None]:
    """A display on which the user presses Ctrl-C at the given change."""
    left = [events]

    def on_change(snapshot: Snapshot) -> None:
        del snapshot
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    return on_change


# What is tried


def test_presets_come_first_in_order(finished: Study) -> None:
    names = [r.preset for r in finished.trials()]
    assert names[:2] == ["linear-probe", "adapter"]
    assert not any(names[2:])
    expected = finished.spec.preset_designs(finished.shape.depth)
    assert [r.design for r in finished.trials()[:2]] == list(expected.values())


def test_known_methods_are_tried_whether_the_space_holds_them_or_not(inputs: Inputs) -> None:
    wanted = ["adapter-plus:rank=2,ssf", "adapter", "linear-probe"]
    study = inputs.create("known", presets=wanted)
    assert study.run(Budget(trials=6), workers=0)
    records = study.trials()
    # The space's own first; one that is asked for twice is tried once, one that is no other design reused.
    assert [r.preset for r in records] == ["linear-probe", "adapter", "adapter-plus:rank=2", "ssf", "", ""]
    assert records[2].design is not None
    assert records[2].design.placements == Design.preset("adapter-plus", rank=2).resolve(6).placements
    assert not study.spec.space.contains(records[2].design, 6)
    assert all(r.state == "complete" for r in records[:4])
    assert all(r.design and study.spec.space.contains(r.design, 6) for r in records[4:])
    again = inputs.load("known")
    assert again.spec == study.spec
    assert again.run(Budget(trials=7), workers=0)
    with pytest.raises(StudyError, match="a study keeps its spec"):
        inputs.load("known", presets=())


def test_an_unknown_preset_is_refused_before_anything_is_written(inputs: Inputs) -> None:
    for text, told in (("adapter-pluss", "'adapter-plus'"), ("lora:rang=4", "'rank'"), ("lora:4", "name:rank=4")):
        with pytest.raises(InputError, match=told):
            inputs.create("unknown", presets=[text])
    assert not (inputs.folder / "studies" / "unknown").exists()


def test_a_limit_below_a_linear_probe_is_refused_before_anything_is_written(inputs: Inputs) -> None:
    study = inputs.create("limited")
    least = Design().num_parameters(study.shape, len(study.classes))
    assert inputs.create("just-enough", max_parameters=least).spec.limits == (("parameters", least),)
    with pytest.raises(
        InputError, match=f"^--max-params: it is at least {least}, the head of 10 classes .*; got {least - 1}"
    ):
        inputs.create("too-little", max_parameters=least - 1)
    assert not (inputs.folder / "studies" / "too-little").exists()


def test_every_trial_is_settled_and_lies_in_the_space(finished: Study) -> None:
    records = finished.trials()
    assert [r.number for r in records] == list(range(TRIALS))
    for r in records:
        assert r.settled
        assert r.design is not None
        assert r.key == r.design.key
        assert finished.spec.space.contains(r.design, finished.shape.depth)
        assert r.parameters == r.design.num_parameters(finished.shape, len(finished.classes))


def test_no_design_is_trained_twice(finished: Study) -> None:
    records = finished.trials()
    assert any(r.reused is not None for r in records), "the study has no duplicate to reuse"
    check_reuse(records)


def test_complete_trials_have_all_rungs_and_weights(finished: Study) -> None:
    for r in finished.trials():
        if r.state == "complete":
            assert sorted(r.rungs) == [RUNG, EPOCHS]
            assert r.accuracy == pytest.approx(r.rungs[EPOCHS])
        if r.state == "complete" and r.reused is None:
            assert r.epochs == EPOCHS
            assert r.seconds > 0
            assert finished.weights_file(r.number).exists()


@pytest.fixture(scope="module")
def pruning(inputs: Inputs) -> Study:
    """A study that prunes at the first smaller peer ahead, so that some are whatever a machine's arithmetic gives."""
    study = inputs.create("pruning", pruner=ParetoPruner(ahead=1, share=0))
    assert study.run(Budget(trials=10), workers=0)
    return study


def test_pruned_trials_stop_at_a_rung(pruning: Study) -> None:
    pruned = [r for r in pruning.trials() if r.state == "pruned" and r.reused is None]
    assert pruned, "the study has no pruned trial"
    for r in pruned:
        assert r.epochs == RUNG
        assert list(r.rungs) == [RUNG]
        assert r.accuracy == r.rungs[RUNG]
        assert not r.preset
        assert not pruning.weights_file(r.number).exists()


@pytest.mark.parametrize(("name", "ahead", "share"), [("finished", 3, 1 / 3), ("pruning", 1, 0.0)])
def test_pruned_trials_have_smaller_peers_ahead(
    name: str, ahead: int, share: float, request: pytest.FixtureRequest
) -> None:
    records: list[TrialRecord] = request.getfixturevalue(name).trials()
    for r in (r for r in records if r.state == "pruned" and r.reused is None):
        earlier = [p for p in records if p.number < r.number and p.parameters <= r.parameters and RUNG in p.rungs]
        assert sum(p.rungs[RUNG] > r.rungs[RUNG] for p in earlier) >= max(ahead, share * len(earlier))


@pytest.mark.parametrize(
    ("better", "worse", "larger", "prunes"),
    [
        (3, 0, 0, True),
        (2, 0, 0, False),  # fewer than three ahead may be luck
        (3, 6, 0, True),
        (3, 7, 0, False),  # fewer than a third are ahead
        (0, 3, 50, False),  # the larger ones say nothing, however far ahead
        (0, 0, 0, False),
    ],
)
def test_the_pruner_asks_three_and_a_third_of_no_more_parameters(
    better: int, worse: int, larger: int, prunes: bool
) -> None:
    def rows(*points: tuple[float, float]) -> Peers:
        found = np.array(points).reshape(-1, 2)
        return Peers(found[:, :1], -found[:, 1:])

    own, peers = rows((0.6, 100.0)), rows(*[(0.9, 100.0)] * better, *[(0.5, 50.0)] * worse, *[(0.99, 101.0)] * larger)
    assert ParetoPruner().prunes(replace(rung_of(0.6), own=own, peers=peers)) == prunes
    equal = rows(*[(0.6, 100.0)] * 5)
    assert not ParetoPruner().prunes(replace(rung_of(0.6), own=own, peers=equal)), "nobody is ahead"


def test_the_front_is_not_dominated(finished: Study) -> None:
    best, complete = finished.front(), [r for r in finished.trials() if r.state == "complete"]
    assert [r.parameters for r in best] == sorted({r.parameters for r in best})
    for r in complete:
        assert any(b.parameters <= r.parameters and (b.accuracy or 0) >= (r.accuracy or 0) for b in best)
    assert 0 < finished.hypervolume() < 1


def report(running: Running, study: Study, accuracy: float) -> bool:
    """Whether a trial goes on after it reported `accuracy` at the rung."""
    return study.scheduler.rung(running, Report(RUNG, accuracy, 1.0))


def test_presets_are_never_pruned(inputs: Inputs) -> None:
    study = inputs.create("strict", pruner=ParetoPruner(ahead=1, share=0))
    (first, _), (second, _) = study.scheduler.ask(), study.scheduler.ask()
    assert [first.preset, second.preset] == ["linear-probe", "adapter"]
    assert report(first, study, 0.9)
    assert report(second, study, 0.1), "a smaller peer is ahead, but it is a preset"
    for running in (first, second):
        study.scheduler.done(running, Result(0.5, b"", 1.0))
    third, step = study.scheduler.ask()
    assert step is Next.TRAIN
    assert not third.preset
    assert not report(third, study, 0.05), "the linear probe is smaller and ahead"


def test_without_a_pruner_nothing_is_pruned(inputs: Inputs) -> None:
    study = inputs.create("unpruned", pruner=None)
    running = [study.scheduler.ask()[0] for _ in range(5)]
    assert all(report(r, study, 0.9 - 0.2 * i) for i, r in enumerate(running))


@pytest.mark.parametrize("sampler", ["ehvi", "tpe", "random", "nsga2"])
def test_seeds_propose_different_designs(inputs: Inputs, sampler: str) -> None:
    """In a space larger than what `ehvi` looks at for a proposal: of a small one it takes the cheapest first."""
    asked = []
    place, task = inputs.folder / "seeds", str(inputs.folder / "task.toml")
    for seed in (0, 1):
        study = Study.create("full", task, name=f"{sampler}-{seed}", studies_dir=place, sampler=sampler, seed=seed)
        asked.append([study.scheduler.ask()[0].design.key for _ in range(len(study.spec.space.presets) + 3)])
    assert asked[0][:-3] == asked[1][:-3], "presets are those of any seed"
    assert asked[0] != asked[1]


# Stopped and resumed


@pytest.mark.parametrize(
    ("sampler", "space", "trials", "stops"),
    [
        ("tpe", "mini", TRIALS, (1, 2, 4, 7, 6, 9)),
        ("ehvi", "mini", 9, (2, 3, 8)),
        ("random", "mini", 9, (2, 3, 8)),
        # More than one population of NSGA-II (50), so that later trials are children of earlier ones.
        ("nsga2", "five", 54, (2, 4)),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    inputs: Inputs, finished: Study, sampler: str, space: str, trials: int, stops: tuple[int, ...]
) -> None:
    whole = finished
    if sampler != "tpe":
        whole = inputs.create(f"whole-{sampler}", space, sampler=sampler)
        assert whole.run(Budget(trials=trials), workers=0)
    study = inputs.create(f"stopped-{sampler}", space, sampler=sampler)
    for events in stops:
        assert not study.run(Budget(trials=trials), workers=0, on_change=stop_after(events))
        study = inputs.load(study.name)
        assert all(r.state != "running" for r in study.trials())
    assert study.run(Budget(trials=trials - 2), workers=0)
    study = inputs.load(study.name)
    assert study.run(Budget(trials=trials), workers=0)
    assert outcomes(study) == outcomes(whole)
    assert any(r.state == "interrupted" for r in study.trials())
    check_reuse(study.trials())


class Crash(BaseException):
    """The end of a process: nothing after it is written."""


def test_crash_between_any_two_writes(inputs: Inputs, finished: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal ends after the n-th write, whatever was going on, and the study is loaded anew."""
    real, left = JournalFileBackend.append_logs, [0]

    def append_logs(self: JournalFileBackend, logs: list[dict[str, object]]) -> None:
        if left[0] <= 0:
            raise Crash
        left[0] -= 1
        real(self, logs)

    study = inputs.create("crashed")
    monkeypatch.setattr(JournalFileBackend, "append_logs", append_logs)
    for writes in (1, 2, 3, 5, 6, 8, 9, 11, 13, 16, 18, 21, 25, 31):
        left[0] = writes
        with pytest.raises(Crash):
            study.run(Budget(trials=TRIALS), workers=0)
        study = inputs.load("crashed")
    monkeypatch.undo()
    assert inputs.load("crashed").run(Budget(trials=TRIALS), workers=0)
    study = inputs.load("crashed")
    assert outcomes(study) == outcomes(finished)
    assert all(r.state in ("complete", "pruned", "interrupted") for r in study.trials())
    assert not [t for t in study.scheduler.records() if t.state == "waiting"]


def test_trials_left_running_are_tried_again(inputs: Inputs, finished: Study) -> None:
    study = inputs.create("left")
    study.run(Budget(trials=3), workers=0)
    lost, _ = inputs.load("left").scheduler.ask()
    study = inputs.load("left")
    assert [r.state for r in study.trials()][-1] == "running"
    assert study.run(Budget(trials=6), workers=0)
    assert outcomes(study) == outcomes(finished)[:6]
    again = study.trials()[lost.trial.number]
    assert (again.state, again.settled) == ("interrupted", False)


def test_a_trial_lost_after_its_rung_leaves_no_trace_in_its_peers(inputs: Inputs, finished: Study) -> None:
    study = inputs.create("rung-lost")
    study.run(Budget(trials=2), workers=0)
    for accuracy in (1.0, 0.99, 0.98, 0.97):  # enough to prune whatever comes later, if they counted
        other = inputs.load("rung-lost")
        other.scheduler.reap()
        report(other.scheduler.ask()[0], other, accuracy)
    study = inputs.load("rung-lost")
    assert study.run(Budget(trials=9), workers=0)
    assert outcomes(study) == outcomes(finished)[:9]


@pytest.mark.usefixtures("warm_processes")
def test_two_workers(inputs: Inputs) -> None:
    study = inputs.create("two", "five")
    assert study.run(Budget(trials=9), workers=2)
    records = study.trials()
    assert len(records) == 9
    assert all(r.settled for r in records)
    check_reuse(records)
    assert any(r.reused is not None for r in records)
    complete = [r for r in records if r.state == "complete" and r.reused is None]
    assert all(study.weights_file(r.number).exists() for r in complete)


# A trial without a result


def test_a_loss_that_is_not_finite_fails_its_trial_only(inputs: Inputs) -> None:
    text = (
        FIVE_DESIGNS.replace('"norm", "bias"', '"adapter"')
        + 'form = ["parallel", "sequential"]\nrank = 1\nscale = 1e20\n'
    )
    inputs.write("diverging", text)
    study = inputs.create("diverging", "diverging", pruner=None)
    assert study.run(Budget(trials=6), workers=0)
    records = study.trials()
    failed = [r for r in records if r.state == "failed"]
    assert failed
    assert all("the loss is finite" in r.reason and "epoch" in r.reason for r in failed)
    assert all(r.accuracy is None for r in failed)
    assert [r.number for r in records if r.settled] == list(range(6))
    assert any(r.state == "complete" for r in records)
    assert not {r.number for r in failed} & {r.number for r in study.front()}
    check_reuse(records)


def test_an_impossible_learning_rate_fails_with_its_reason(inputs: Inputs) -> None:
    """Every trial fails, and still the study ends and has an empty front."""
    task = inputs.write("hot", TASK.replace("[training]", "[training]\nlearning_rate = 900.0\nwarmup_epochs = 0"))
    inputs.write(
        "huge", 'name = "huge"\n[[slots]]\nname = "mlp"\noperation = "mlp"\ntuner = "adapter"\nrank = 1\nscale = 1e38\n'
    )
    study = inputs.create("huge", "huge", task=task)
    assert study.run(Budget(trials=2), workers=0)
    assert [r.state for r in study.trials()] == ["failed", "failed"]
    assert study.front() == []
    assert study.hypervolume() == 0
    assert study.run(Budget(trials=2), workers=0)
    assert len(study.trials()) == 2, "what failed is tried again where that is asked for only"
    assert study.run(Budget(trials=2), workers=0, retry_failed=True)
    assert [r.state for r in study.trials()] == ["interrupted", "interrupted", "failed", "failed"]


# Budgets


def test_budget_of_trials_counts_the_whole_study(inputs: Inputs) -> None:
    study = inputs.create("trials", "five")
    assert study.run(Budget(trials=2), workers=0)
    assert len(study.trials()) == 2
    assert study.run(Budget(trials=2), workers=0)
    assert len(study.trials()) == 2
    assert study.run(Budget(trials=3), workers=0)
    assert len(study.trials()) == 3


def test_budget_of_epochs(inputs: Inputs) -> None:
    study = inputs.create("epochs", pruner=None)
    assert study.run(Budget(trials=None, epochs=2 * EPOCHS + 1), workers=0)
    assert sum(r.epochs for r in study.trials()) == 3 * EPOCHS
    assert study.run(Budget(trials=None, epochs=3 * EPOCHS), workers=0)
    assert sum(r.epochs for r in study.trials()) == 3 * EPOCHS


def test_budget_of_epochs_ends_where_all_designs_are_trained(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reused trials train no epochs, so a small space can never use up such a budget."""
    study, asked = inputs.create("exhausted", "five"), []
    real = study.scheduler.ask

    def ask() -> tuple[Running, Next]:
        asked.append(1)
        assert len(asked) < 200, "200 trials of a space with five designs, and no end"
        return real()

    monkeypatch.setattr(study.scheduler, "ask", ask)
    assert study.run(Budget(trials=None, epochs=1000), workers=0)
    records = study.trials()
    check_reuse(records)
    assert len({r.key for r in records}) == 5
    assert all(r.reused is not None for r in records[-STALE:])
    assert records[-STALE - 1].reused is None, "it went on for longer than its rule says"
    again = inputs.load("exhausted")
    assert again.run(Budget(trials=None, seconds=1e9), workers=0)
    assert len(again.trials()) == len(records), "the end is a matter of the history, not of the run"
    assert again.run(Budget(trials=len(records) + 1), workers=0)
    assert len(again.trials()) == len(records) + 1


def test_epochs_of_a_lost_trial_are_not_spent(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between its last two writes, a trial has its epochs on record and is trained again."""
    budget = Budget(trials=None, epochs=3 * EPOCHS)
    whole = inputs.create("epochs-whole", pruner=None)
    assert whole.run(budget, workers=0)
    study = inputs.create("epochs-killed", pruner=None)

    def tell(*arguments: object, **options: object) -> None:
        del arguments, options
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", tell)
        with pytest.raises(Crash):
            study.run(budget, workers=0)
    study = inputs.load("epochs-killed")
    assert study.run(budget, workers=0)
    assert outcomes(study) == outcomes(whole)
    assert [r.epochs for r in study.trials() if r.state == "interrupted"] == [0]


def test_budget_of_seconds_is_one_run_s(inputs: Inputs) -> None:
    study = inputs.create("seconds")
    for _ in range(2):
        before = len(study.trials())
        assert study.run(Budget(trials=None, seconds=1e-4), workers=0)
        assert len(study.trials()) <= before + 1
    assert all(r.settled for r in study.trials())


def test_the_first_limit_reached_counts(inputs: Inputs) -> None:
    study = inputs.create("first-limit")
    assert study.run(Budget(trials=50, epochs=1), workers=0)
    assert len(study.trials()) == 1


def test_snapshots_say_where_the_study_stands(inputs: Inputs) -> None:
    study, seen = inputs.create("snapshots"), []
    study.run(Budget(trials=3), workers=0, on_change=seen.append)
    settled = [sum(r.settled for r in s.records) for s in seen]
    assert settled == sorted(settled)
    assert {1, 2, 3} <= set(settled)
    assert all(s.target == 3 and s.elapsed >= 0 and len(s.running) <= 1 for s in seen)
    begun = [r for s in seen for r in s.running]  # as they are now, which is after their last rungs
    assert begun
    for running in begun:
        assert running.accuracy == running.values["accuracy"] == running.measured[running.epoch]["accuracy"]
    last = seen[-1]
    assert (last.running, last.front) == ([], [r.number for r in study.front()])
    assert last.hypervolume == pytest.approx(study.hypervolume())
    assert last.remaining == 0


# Refusals


def test_create_refuses_an_existing_name(inputs: Inputs, finished: Study) -> None:
    before = {p: p.read_bytes() for p in finished.folder.rglob("*") if p.is_file()}
    with pytest.raises(StudyError, match=r"new study has a new name.*resume finished"):
        inputs.create("finished")
    assert {p: p.read_bytes() for p in finished.folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", [".", "..", ".hidden", "a/b", "../a", "a b", "{}/a"])
def test_create_refuses_names_that_are_no_folder_s(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="name has letters, digits"):
        Inputs(tmp_path).create(name.format(tmp_path))
    assert not list(tmp_path.rglob("spec.toml"))


def test_load_refuses_an_unknown_name(inputs: Inputs, finished: Study) -> None:
    with pytest.raises(StudyError, match=f"no such study.*{finished.name}"):
        inputs.load("nope")


def test_load_refuses_another_spec_and_shows_the_difference(inputs: Inputs, finished: Study) -> None:
    task = finished.spec.task
    longer = replace(task, recipe=replace(task.recipe, epochs=7))
    changes: list[tuple[dict[str, object], str]] = [
        ({"seed": 7}, "seed: 7 here, 0 there"),
        ({"sampler": "random"}, "sampler: random here, tpe there"),
        ({"task": longer}, "task.training.epochs: 7 here, 3 there"),
        ({"space": Space.load(str(inputs.folder / "five.toml"))}, "space.name: five here, mini there"),
        ({"pruner": None}, "pruner.kind: none here, pareto there"),
    ]
    for changed, difference in changes:
        with pytest.raises(StudyError, match="a study keeps its spec") as caught:
            inputs.load("finished", **changed)
        assert difference in str(caught.value) or "more" in str(caught.value)
        assert "here" in str(caught.value)
    same = {"seed": 0, "sampler": "tpe", "task": Task.load(str(inputs.folder / "task.toml"))}
    assert inputs.load("finished", **same).spec == finished.spec


def test_an_edited_spec_file_is_refused(inputs: Inputs) -> None:
    study = inputs.create("edited")
    path = study.folder / "spec.toml"
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 5"))
    with pytest.raises(StudyError, match=r"spec\.toml.*task\.training\.epochs: 5 here, 3 there"):
        inputs.load("edited")


@pytest.mark.parametrize(
    ("name", "content"), [("no-toml", "nonsense ["), ("keys-missing", "format = 1"), ("empty", "")]
)
def test_a_damaged_spec_file_is_refused(inputs: Inputs, name: str, content: str) -> None:
    study = inputs.create(name)
    (study.folder / "spec.toml").write_text(content)
    with pytest.raises((StudyError, InputError), match=r"spec\.toml") as caught:
        inputs.load(name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "missing"])
def test_a_lost_journal_is_refused(inputs: Inputs, empty: bool) -> None:
    name = f"lost-{empty}"
    study = inputs.create(name)
    journal = study.folder / "journal.log"
    journal.unlink()
    if empty:
        journal.touch()
    with pytest.raises(StudyError, match=r"journal|storage"):
        inputs.load(name)


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_journal_cut_back_to_its_beginning_is_refused(inputs: Inputs, kept: int) -> None:
    """As a repair may leave it: the study is there, some or all of what it was created with is not."""
    study = inputs.create(f"cut-{kept}")
    journal = study.folder / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6, "a created study has other lines than this test cuts"
    journal.write_bytes(b"".join(lines[:kept]))
    if kept == 6:
        assert inputs.load(study.name).trials() == []
    else:
        with pytest.raises(StudyError, match=rf"journal .*cut-{kept}.*it holds the study") as caught:
            inputs.load(study.name)
        assert len(str(caught.value).splitlines()) == 1


def test_creation_that_was_killed_is_in_nobody_s_way(inputs: Inputs) -> None:
    study = inputs.create("half")
    (study.folder / "spec.toml").unlink()  # written last
    assert inputs.create("half").run(Budget(trials=1), workers=0)
    (study.folder / "spec.toml").unlink()
    with pytest.raises(StudyError, match=r"it has its spec\.toml; got trials"):
        inputs.create("half")
    assert b'"state":1' in (study.folder / "journal.log").read_bytes(), "a finished trial was thrown away"


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_creation_on_a_full_disk_leaves_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None
) -> None:
    own = Inputs(tmp_path)
    url = f"sqlite:///{tmp_path}/poor.db" if storage else None

    def write(path: Path, content: object) -> None:
        del content
        raise StudyError(f"file {path}", "it can be written", "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("utuning_search.search.creation.write_atomically", write)
        with pytest.raises(StudyError, match="No space left"):
            own.create("poor", storage=url)
    assert [p.name for p in (tmp_path / "studies" / "poor").iterdir() if not p.name.startswith(".")] == []
    assert own.create("poor", storage=url).trials() == []


def test_one_process_runs_a_study(inputs: Inputs) -> None:
    study = inputs.create("locked")
    refused = []

    def on_change(snapshot: Snapshot) -> None:
        del snapshot
        with pytest.raises(StudyError, match="one process runs it") as caught:
            inputs.load("locked").run(Budget(trials=2), workers=0)
        refused.append(caught.value)

    assert study.run(Budget(trials=1), workers=0, on_change=on_change)
    assert refused
    assert [r.state for r in study.trials()] == ["complete"], "the refused process reaped the other one's trial"
    assert inputs.load("locked").run(Budget(trials=2), workers=0)


def image_folder(root: Path, seed: int) -> None:
    """Two classes of twelve 8x8 images of noise."""
    draw = np.random.default_rng(seed)
    for label in ("a", "b"):
        folder = root / "train" / label
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i:02d}.png")


def test_data_changed_since_creation_is_refused(inputs: Inputs) -> None:
    image_folder(inputs.folder / "images", seed=0)
    table = TASK.replace('"digits"', '"imagefolder"\nroot = "images"')
    task = inputs.write("noise", table.replace("proxy = 100", "proxy = 8").replace("validation = 60", "validation = 8"))
    study = inputs.create("noise", "five", task=task, data_dir=str(inputs.folder))
    assert study.run(Budget(trials=1), workers=0)
    image_folder(inputs.folder / "images", seed=1)
    with pytest.raises(StudyError, match=r"data: its digest is .*; got "):
        inputs.load("noise").run(Budget(trials=2), workers=0)
    assert len(study.trials()) == 1
    image_folder(inputs.folder / "images", seed=0)
    assert inputs.load("noise").run(Budget(trials=2), workers=0), "the data directory is remembered"


# Storages


def test_sqlite(inputs: Inputs, finished: Study) -> None:
    url = f"sqlite:///{inputs.folder}/studies.db"
    study = inputs.create("sqlite", storage=url)
    assert study.run(Budget(trials=2), workers=0)
    assert not (study.folder / "journal.log").exists()
    with pytest.raises(StudyError, match="--storage sqlite"):
        inputs.load("sqlite")
    again = inputs.load("sqlite", storage=url)
    assert again.run(Budget(trials=3), workers=0)
    assert outcomes(again) == outcomes(finished)[:3]
    with pytest.raises(StudyError, match="new study has a new name"):
        inputs.create("sqlite", storage=url)


@pytest.mark.parametrize("url", STORAGE_URLS)
def test_a_storage_that_cannot_be_reached(tmp_path: Path, url: str) -> None:
    own = Inputs(tmp_path)
    with pytest.raises(StudyError, match="--storage") as caught:
        own.create("remote", storage=url)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "studies").exists(), "a study that could not be created left its folder"


@pytest.mark.parametrize(
    "rest", ["", "/", "/:memory:", "/file::memory:?cache=shared&uri=true", "/file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused(rest: str, tmp_path: Path) -> None:
    """What is finished there is lost with the process."""
    own = Inputs(tmp_path)
    for kind in ("sqlite", "sqlite+pysqlite"):
        with pytest.raises(StudyError, match="a storage outlasts its process; got a database in memory"):
            own.create("gone", storage=f"{kind}://{rest}")
    assert not (tmp_path / "studies").exists()


def test_a_sqlite_file_that_cannot_be_written(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    with pytest.raises(StudyError, match="--storage sqlite") as caught:
        own.create("nowhere", storage=f"sqlite:///{tmp_path}/no/such/folder/x.db")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "studies").exists()


def test_a_sqlite_file_that_is_read_only(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    own.create("there", storage=f"sqlite:///{tmp_path}/x.db")
    url = f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true"
    with pytest.raises(StudyError, match=r"--storage sqlite.*readonly") as caught:
        own.create("nowhere", storage=url)
    assert len(str(caught.value).splitlines()) == 1
    study = own.load("there", storage=url)
    with pytest.raises(StudyError, match=r"--storage sqlite.*readonly") as caught:
        study.run(Budget(trials=1), workers=0)
    assert len(str(caught.value).splitlines()) == 1


def test_a_password_is_not_kept(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage works, so the study is created; no file of it may hold the password."""
    journal = optuna.storages.InMemoryStorage()
    for module in ("stored", "creation"):
        monkeypatch.setattr(f"utuning_search.search.{module}.open_storage", lambda url, folder: journal)  # noqa: ARG005
    for i, url in enumerate(STORAGE_URLS):
        study = inputs.create(f"password-{i}", storage=url)
        for path in study.folder.rglob("*"):
            if path.is_file():
                assert SECRET not in path.read_text(), f"{url} in {path.name}"


def test_a_run_leaves_the_random_state_alone(inputs: Inputs) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1:3]  # noqa: NPY002  # the global one
    study = inputs.create("random-state", "five")
    study.run(Budget(trials=3), workers=0)
    inputs.load("random-state").run(Budget(trials=4), workers=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    keys, position = np.random.get_state()[1:3]  # noqa: NPY002  # the global one
    assert (keys.tolist(), position) == (before[2][0].tolist(), before[2][1])
