"""What a recommended design is measured beside."""

import pytest

from utuning_search.designs.design import Design
from utuning_search.results.recommend.finish import companions
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.trials import TrialRecord

RECORDS = {
    "probe": ("linear-probe", Design(learning_rate=0.01), 0.90),
    "faster probe": ("", Design(learning_rate=0.04), 0.99),
    "bitfit": ("bitfit", Design.preset("bitfit", learning_rate=0.01).resolve(6), 0.97),
    "faster bitfit": ("", Design.preset("bitfit", learning_rate=0.03).resolve(6), 0.98),
    "ssf": ("ssf", Design.preset("ssf", learning_rate=0.01).resolve(6), 0.96),
    "own": ("", Design.preset("lora", learning_rate=0.01).resolve(6), 0.99),
}


def records(*names: str) -> list[TrialRecord]:
    return [
        TrialRecord(i, "complete", design.key, design, preset, 100 + i, accuracy, 1, 0.0, {}, None, "")
        for i, (preset, design, accuracy) in enumerate(RECORDS[name] for name in names)
    ]


@pytest.mark.parametrize(
    ("best", "beside"),
    [
        ("own", ("probe", "bitfit")),
        ("faster probe", (None, "bitfit")),
        ("probe", (None, "bitfit")),
        ("bitfit", ("probe", "ssf")),
        ("faster bitfit", ("probe", "ssf")),
    ],
)
def test_no_design_is_measured_beside_itself_at_another_rate(best: str, beside: tuple[str | None, str | None]) -> None:
    names = list(RECORDS)
    known = records(*names)
    found = companions(known[names.index(best)], known, USUAL)
    assert found == tuple(None if name is None else known[names.index(name)] for name in beside)


def test_where_nothing_else_was_trained_there_are_none() -> None:
    (alone,) = records("bitfit")
    assert companions(alone, [alone], USUAL) == (None, None)
