"""Where memory runs out, the same is done in smaller pieces: same gradients, same results, and it is told."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor

from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import StudyError
from utuning_search.data.spec import DataSpec
from utuning_search.designs.design import Design, Placement
from utuning_search.results.tables import read_table, table
from utuning_search.search.budget import Budget
from utuning_search.search.runner import LOSSES
from utuning_search.search.scheduler import MOST_LOSSES
from utuning_search.search.study import Study
from utuning_search.training.out_of_memory import halve_to_fit, note
from utuning_search.training.proxy import ProxyTrainer, Report, Result
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.tuners import AdapterConfig

from .helpers import DEPTH, SAID, Small

optuna.logging.set_verbosity(optuna.logging.ERROR)

CPU = torch.device("cpu")


# The helper


def test_sizes_are_halved_until_they_fit() -> None:
    for size, tried in ((64, [64, 32, 16, 8]), (33, [33, 17, 9]), (9, [9])):
        seen: list[int] = []

        def work(size: int, seen: list[int] = seen) -> str:
            seen.append(size)
            if size > 9:
                raise torch.OutOfMemoryError(SAID)
            return "done"

        assert halve_to_fit(work, size, CPU) == ("done", tried[-1])
        assert seen == tried


def test_a_single_row_that_does_not_fit_is_an_error() -> None:
    seen: list[int] = []

    def work(size: int) -> None:
        seen.append(size)
        raise torch.OutOfMemoryError(SAID)

    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        halve_to_fit(work, 5, CPU)
    assert seen == [5, 3, 2, 1]


def test_other_errors_are_not_tried_again() -> None:
    with pytest.raises(ZeroDivisionError):
        halve_to_fit(lambda size: size // 0, 8, CPU)


# Studies

TASK = Task(
    "tiny",
    BackboneSpec("glyph_vit"),
    DataSpec("digits", proxy=100, validation=60, views=2),
    Recipe(epochs=2, batch_size=50),
)
SPACE = """
name = "two"
presets = ["linear-probe", "adapter"]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter"]
form = "sequential"
rank = 10
blocks = "all"
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Memory for so many images at a time: of designs with tuners, and of the linear probe."""
    rows = {"tuned": 20, "probe": 1000}
    real = TunedModel.forward_from

    def forward_from(self: TunedModel, tokens: Tensor, *given: Any, **named: Any) -> Tensor:
        kind = "tuned" if self.first_tuned_block < DEPTH else "probe"
        return Small(rows[kind], lambda x: real(self, x, *given, **named))(tokens)

    monkeypatch.setattr(TunedModel, "forward_from", forward_from)
    return rows


ADAPTER = Design((Placement("mlp", AdapterConfig(2), "parallel"),))


def study_in(folder: Path, name: str) -> Study:
    task = 'name = "tiny"\n[backbone]\nname = "glyph_vit"\n[data]\nsource = "digits"\nproxy = 100\nvalidation = 60\n'
    (folder / "task.toml").write_text(task + "[training]\nepochs = 2\nbatch_size = 50\nrungs = [1]\n")
    (folder / "space.toml").write_text(SPACE)
    return Study.create(str(folder / "space.toml"), str(folder / "task.toml"), name=name, studies_dir=folder)


def test_an_evaluation_with_little_memory_gives_the_same(short: dict[str, int]) -> None:
    trainer = ProxyTrainer(TASK, Runtime())
    results = []
    for rows in (1000, 20):
        short["tuned"] = rows
        *_, result = trainer.evaluate(ADAPTER.resolve(DEPTH), 3)
        assert isinstance(result, Result)
        results.append(result)
    assert [r.accumulation for r in results] == [1, 4]  # 50, 25, 13
    assert results[0].accuracy == pytest.approx(results[1].accuracy, abs=1 / 60)


@pytest.mark.usefixtures("short")
def test_a_study_notes_what_did_not_fit(tmp_path: Path) -> None:
    study = study_in(tmp_path, "noted")
    assert study.run(Budget(trials=5), workers=0)
    records = study.trials()
    assert {r.state for r in records} == {"complete"}
    probe, adapter, *again = records
    assert (probe.preset, probe.accumulation, probe.reason) == ("linear-probe", 1, "")
    assert (adapter.preset, adapter.accumulation) == ("adapter", 4)
    assert adapter.reason == "out of memory: batches of 50 were taken in 4 parts"
    reused = [r for r in again if r.reused == adapter.number]
    assert reused, "no trial reused the adapter"
    assert all((r.accumulation, r.reason) == (4, adapter.reason) for r in reused)
    attributes = [t.user_attrs for t in study._optuna.get_trials()]
    assert "accumulation" not in attributes[0]
    assert attributes[1]["accumulation"] == 4
    path = tmp_path / "trials.csv"
    path.write_text(table(records).to_csv(index=False))
    assert read_table(path)["reason"].tolist()[:2] == ["", adapter.reason]
    assert study.front()[-1].reason in ("", adapter.reason)


def test_pruned_trials_note_it_and_failed_ones_say_why(tmp_path: Path) -> None:
    scheduler = study_in(tmp_path, "states").scheduler
    for wanted in ("pruned", "failed"):
        running, _ = scheduler.ask()
        scheduler.rung(running, Report(1, 0.1, 1.0, 2))
        if wanted == "pruned":
            scheduler.pruned(running, 1.0)
        else:
            scheduler.failed(running, "the loss is finite", 1.0)
    pruned, failed = scheduler.records()
    assert (pruned.state, pruned.reason) == ("pruned", note(50, 2))
    assert (failed.state, failed.reason) == ("failed", "the loss is finite")


def test_a_design_that_does_not_fit_at_all_fails_alone(tmp_path: Path, short: dict[str, int]) -> None:
    short["tuned"] = 0
    study = study_in(tmp_path, "short")
    assert study.run(Budget(trials=3), workers=0)
    said = f"out of memory: {SAID.splitlines()[0]}"
    probe, adapter, *_ = (r for r in study.trials() if r.settled)
    assert (probe.state, probe.reason) == ("complete", "")
    assert (adapter.state, adapter.reason) == ("failed", said)
    again = [r for r in study.trials() if r.state == "interrupted"]
    assert [(r.key, r.reason) for r in again] == [(adapter.key, said)] * (MOST_LOSSES - 1)


def test_memory_that_a_neighbour_takes_is_no_design_s_failure(tmp_path: Path, short: dict[str, int]) -> None:
    study = study_in(tmp_path, "crowded")
    short["tuned"] = short["probe"] = 0
    with pytest.raises(StudyError, match=rf"{LOSSES} lost in a row; the last: out of memory"):
        study.run(Budget(trials=3), workers=0)
    assert {r.state for r in study.trials()} == {"interrupted"}
    short["tuned"] = short["probe"] = 1000
    assert study.run(Budget(trials=2), workers=0)
    assert [r.state for r in study.trials() if r.settled] == ["complete"] * 2
