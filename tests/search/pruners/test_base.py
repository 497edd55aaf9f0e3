"""When a pruner is asked: at rungs of trials that are no known methods, and never at their end."""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.search.pruners.base import Pruner, Rung
from utuning_search.testing.pretend import PretendStudy

ASKED: list[tuple[int, int]] = []  # number of a trial, and epoch


@dataclass(frozen=True)
class Curious(Pruner):
    kind: ClassVar[str] = "curious"
    summary: ClassVar[str] = "prunes nothing"

    def prunes(self, rung: Rung) -> bool:
        ASKED.append((rung.number, rung.epoch))
        return False


def test_it_is_asked_at_every_rung_but_not_at_the_end_nor_of_known_methods() -> None:
    ASKED.clear()
    study = PretendStudy(pruner=Curious())
    records = study.play(6)
    others = [r.number for r in records if not r.preset and r.reused is None]
    assert others
    assert len(others) < len(records)
    assert [(number, epoch) for number in others for epoch in study.spec.task.recipe.rungs] == ASKED
