"""Which of a design's trainings an export speaks of, where it was confirmed several times."""

from dataclasses import replace
from pathlib import Path

import pytest

from utuning_search.results.outcomes import confirmed_metrics, confirmed_weights, keep_outcome

from .test_damaged import OUTCOME


def keep(folder: Path, epochs: int, augmented: bool, *accuracies: float | None) -> None:
    for seed, accuracy in enumerate(accuracies):
        found = replace(OUTCOME, epochs=epochs, augmented=augmented, seed=seed, accuracy=accuracy, others={})
        keep_outcome(folder, found, weights=f"{epochs} {augmented} {seed}".encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "finals").mkdir()
    return tmp_path


def exported(folder: Path) -> tuple[dict[str, float | int], bytes]:
    weights = confirmed_weights(folder, OUTCOME.key)
    return confirmed_metrics(folder, OUTCOME.key), b"" if weights is None else weights.read_bytes()


@pytest.mark.parametrize("epochs", [(2, 10), (10, 2), (9, 100)])
def test_the_longest_trainings_count_whenever_they_were_made(epochs: tuple[int, int], folder: Path) -> None:
    """By the number of their epochs, which file names sort otherwise; with their own weights."""
    for count in epochs:
        keep(folder, count, True, count / 200, count / 200)
    longest = max(epochs)
    numbers, weights = exported(folder)
    assert (numbers["test_accuracy_mean"], numbers["test_seeds"]) == (longest / 200, 2)
    assert weights == f"{longest} True 0".encode()


def test_of_equally_long_ones_the_augmented_count_and_of_shorter_ones_they_do_not(folder: Path) -> None:
    keep(folder, 5, False, 0.9)
    keep(folder, 5, True, 0.8)
    assert exported(folder) == ({"test_accuracy_mean": 0.8, "test_seeds": 1}, b"5 True 0")
    keep(folder, 6, False, 0.7)
    assert exported(folder) == ({"test_accuracy_mean": 0.7, "test_seeds": 1}, b"6 False 0")


def test_a_failed_training_among_the_longest_leaves_no_numbers(folder: Path) -> None:
    """Those of the shorter ones would be another training's."""
    keep(folder, 2, True, 0.5, 0.5)
    keep(folder, 4, True, 0.6, None)
    numbers, weights = exported(folder)
    assert (numbers, weights) == ({}, b"4 True 0")


def test_outcomes_of_other_designs_are_theirs(folder: Path) -> None:
    keep_outcome(folder, replace(OUTCOME, key="f" * 12, epochs=50, accuracy=0.1))
    keep(folder, 2, True, 0.5)
    assert exported(folder)[0]["test_accuracy_mean"] == 0.5
