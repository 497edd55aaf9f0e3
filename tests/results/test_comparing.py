"""Two studies side by side: what each attained, and who is ahead beyond what images can tell."""

from dataclasses import replace

import pytest

from utuning_search.results.comparing import Side, attainment, difference
from utuning_search.results.pictures.comparison import draw_comparison
from utuning_search.results.pictures.figure import Look
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.trials import TrialRecord, volume_of
from utuning_search.testing.pretend import SETTING, PretendStudy


def trial(number: int, parameters: int, accuracy: float, epochs: int = 10, state: str = "complete") -> TrialRecord:
    return TrialRecord(
        number=number, state=state, key=str(parameters), design=None, preset="", parameters=parameters,
        accuracy=accuracy, epochs=epochs, seconds=1.0, rungs={}, reused=None, reason="",
    )  # fmt: skip


def side(name: str, *trials: TrialRecord, images: int = 400) -> Side:
    return Side(name, trials, USUAL, SETTING, images)


A = side("a", trial(0, 1_000, 0.6), trial(1, 9_000, 0.9), trial(2, 3_000, 0.7, 4, "pruned"))
B = side("b", trial(0, 1_000, 0.8), trial(1, 9_000, 0.91), trial(2, 90_000, 0.99))


def test_attained_is_the_best_that_costs_no_more() -> None:
    for cost, number in ((999, None), (1_000, 0), (8_999, 0), (9_000, 1), (1e9, 1)):
        found = A.attained(cost)
        assert (found and found.number) == number
    assert A.attained(999) is None


def test_progress_counts_every_epoch_and_complete_trials_only() -> None:
    volumes = [volume_of(A.records[:n], USUAL, SETTING) for n in (1, 2)]
    assert A.progress() == [(0, 0.0), (10, volumes[0]), (20, volumes[1]), (24, volumes[1])]
    assert volumes[0] < volumes[1]
    assert A.volume_after(19) == volumes[0]
    assert A.volume_after(0) == 0.0
    assert A.epochs_to(volumes[1]) == 20
    assert A.epochs_to(1.0) is None


def test_who_is_ahead_is_decided_beyond_the_images() -> None:
    found = {int(at.cost): at for at in attainment(A, B)}
    assert set(found) == {1_000, 9_000, 90_000}
    assert [found[c].ahead for c in (1_000, 9_000, 90_000)] == ["b", "", "b"]
    backwards = {int(at.cost): at.ahead for at in attainment(B, A)}
    assert [backwards[c] for c in (1_000, 9_000, 90_000)] == ["a", "", "a"]
    few = {int(at.cost): at.ahead for at in attainment(replace(A, images=10), replace(B, images=10))}
    assert set(few.values()) == {""}


def test_the_interval_is_newcombes() -> None:
    """Example of Newcombe (1998): 56 of 70 against 48 of 80, 0.2 with 0.0524 to 0.3339."""
    found = difference(trial(0, 1, 48 / 80), 80, trial(1, 1, 56 / 70), 70)
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("names", [("accuracy",), ("accuracy", "parameters"), ("accuracy", "flops", "parameters")])
def test_a_picture_of_any_objectives(names: tuple[str, ...]) -> None:
    objectives = Objectives(names)
    sides = []
    for seed in range(2):
        study = PretendStudy(objectives=objectives, seed=seed)
        sides.append(Side(f"seed {seed}", study.play(10), objectives, SETTING, 400))
    figure = draw_comparison(*sides, Look(width=160))
    assert len(figure.axes) == min(len(names), 2)
    assert [t.get_text().split(" (")[0] for t in figure.legends[0].get_texts()] == ["seed 0", "seed 1"]
    volumes = [line.get_ydata()[-1] for line in figure.axes[-1].lines]  # type: ignore[index]  # an array
    assert volumes == [side.progress()[-1][1] for side in sides]
    assert (attainment(*sides) == []) is (len(names) == 1)
    draw_comparison(replace(sides[0], records=[]), sides[1])
