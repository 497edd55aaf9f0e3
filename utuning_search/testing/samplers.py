"""The contract of samplers."""

import pickle
import re
from dataclasses import fields

from utuning_search.common.configured import from_table
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SHAPE, PretendStudy

TRIALS = 12


class SamplerContract:
    """Inherit it in a test module and set `sampler`:

    class TestMine(SamplerContract):
        sampler = MySampler()
    """

    sampler: Sampler

    def test_it_has_a_name_and_says_what_it_does(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", self.sampler.kind)
        assert self.sampler.summary

    def test_every_option_has_a_default(self) -> None:
        assert type(self.sampler)() is not None
        assert all(hasattr(self.sampler, f.name) for f in fields(self.sampler))

    def test_it_survives_its_table_and_a_process(self) -> None:
        known = {self.sampler.kind: type(self.sampler)}
        assert from_table(known, self.sampler.to_raw(), "spec", "sampler") == self.sampler
        assert pickle.loads(pickle.dumps(self.sampler)) == self.sampler

    def test_it_fits_any_budget(self) -> None:
        for trials in (None, 1, 8, 48, 10_000):
            assert isinstance(type(self.sampler).for_budget(trials), type(self.sampler))

    def test_proposals_are_designs_of_the_backbone(self) -> None:
        for record in PretendStudy(self.sampler).play(TRIALS):
            assert record.design is not None
            assert record.design == record.design.resolve(SHAPE.depth)
            assert record.parameters > 0

    def test_a_proposal_is_a_function_of_seed_and_history(self) -> None:
        assert played(PretendStudy(self.sampler).play(TRIALS)) == played(PretendStudy(self.sampler).play(TRIALS))

    def test_a_study_that_was_stopped_goes_on_as_if_it_had_not_been(self) -> None:
        whole = PretendStudy(self.sampler).play(TRIALS)
        first = PretendStudy(self.sampler)
        first.play(TRIALS // 2)
        again = type(self.sampler)(**{f.name: getattr(self.sampler, f.name) for f in fields(self.sampler)})
        assert played(PretendStudy(again, storage=first.storage).play(TRIALS - TRIALS // 2)) == played(whole)

    def test_proposals_lie_in_the_limits_or_are_refused(self) -> None:
        records = PretendStudy(self.sampler, limits=(("parameters", 5_000),)).play(TRIALS)
        assert all(r.parameters <= 5_000 or r.state == "oversized" for r in records)

    def test_the_history_is_left_as_it_is(self) -> None:
        study = PretendStudy(self.sampler)
        before = played(study.play(TRIALS))
        study.scheduler.ask()
        assert played(study.scheduler.records()[: len(before)]) == before


def played(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    """What was tried and what came of it, in order."""
    return [(r.key, r.state, r.accuracy, dict(r.rungs), r.reused) for r in records]
