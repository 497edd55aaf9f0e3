"""Which design is tried next: what was given back, known methods, what was enqueued, and then what a sampler proposes.

The next trial is a function of (spec, history): trials are numbered by an index of their own that interrupted
trials give back, and every random choice is seeded by it.
"""

from collections.abc import Mapping
from typing import Any, cast

import optuna
from optuna.trial import Trial

from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Suggester
from utuning_search.search.history import History
from utuning_search.search.objectives.base import Setting
from utuning_search.search.sampled import SampledStorage
from utuning_search.search.samplers.base import Request
from utuning_search.search.spec import StudySpec


class Proposals:
    """Makes the trials of one study.

    Args:
        study: The Optuna study, as samplers see it.
        storage: That it sees.
        spec: What decides its trials.
        setting: Of the backbone and the task.
    """

    def __init__(self, study: optuna.Study, storage: SampledStorage, spec: StudySpec, setting: Setting) -> None:
        self._study, self._storage, self.spec, self.setting = study, storage, spec, setting
        self._depth = setting.shape.depth
        self._presets = spec.preset_designs(self._depth)

    def next(self, index: int, history: History) -> tuple[Trial, Design, str]:
        """What is tried at an index, in a new trial, and the name of the known method that it is.

        The trial may be a draft; `SampledStorage.write` makes one of it that all see.
        """
        waiting = any(r.state == "waiting" for r in history.unfinished)
        earlier = None if waiting else history.given_back(index)
        if earlier is not None and earlier.design is not None:
            return self._again(history, earlier.design, earlier.preset, earlier.number)
        return self._known(index, history, waiting) or self._proposed(index, history)

    def _again(
        self, history: History, design: Design, preset: str, earlier: int | None = None
    ) -> tuple[Trial, Design, str]:
        """A design that is decided, in a new trial, with values of the space's variables where it has them.

        Where an earlier trial is tried again, its number: what a sampler noted of it is the new one's too.
        """
        # Every value is fixed.
        named = {"preset": preset} if preset else {}
        noted = {} if earlier is None else self._storage.noted(self._study, earlier)
        trial = self._ask(history, optuna.samplers.RandomSampler(seed=0), design, named, noted)
        if self.spec.space.contains(design, self._depth):
            self._suggest(trial)
        return trial, design, preset

    def _known(self, index: int, history: History, waiting: bool) -> tuple[Trial, Design, str] | None:
        """The known method that is tried at an index, or what was enqueued; None where it is the sampler's turn."""
        seed = self._proposal_seed(index)
        sampler = self.spec.sampler.backend(seed) or optuna.samplers.RandomSampler(seed=seed)
        if waiting:
            trial = self._ask(history, sampler)
        elif index < len(self._presets):
            name = list(self._presets)[index]
            trial = self._ask(history, sampler, self._presets[name], {"preset": name})
        else:
            return None
        name = trial.user_attrs.get("preset", "")
        if name in self._presets and not self.spec.space.contains(self._presets[name], self._depth):
            return trial, self._presets[name], name  # without values of search variables: samplers learn nothing of it
        return trial, self._suggest(trial), name

    def _proposed(self, index: int, history: History) -> tuple[Trial, Design, str]:
        """What the sampler proposes, in a trial that holds the values of the space's variables where it has them."""
        asked: list[Trial] = []

        def suggest(sampler: optuna.samplers.BaseSampler) -> Design:
            asked.append(self._ask(history, sampler))
            return self._suggest(asked[-1])

        design = self.spec.sampler.propose(
            Request(
                space=self.spec.space,
                objectives=self.spec.objectives,
                setting=self.setting,
                recipe=self.spec.task.recipe,
                validation=self.spec.task.data.validation,
                seed=self._proposal_seed(index),
                history=history.records,
                limits=dict(self.spec.limits),
                suggest=suggest,
            )
        ).resolve(self._depth)
        return (asked[-1], design, "") if asked else self._again(history, design, "")

    def _proposal_seed(self, index: int) -> int:
        return derive_seed(self.spec.seed, f"sampler {index}")

    def _ask(
        self,
        history: History,
        sampler: optuna.samplers.BaseSampler,
        design: Design | None = None,
        attributes: Mapping[str, Any] | None = None,
        noted: Mapping[str, Any] | None = None,
    ) -> Trial:
        """A trial of what a sampler chooses, or of a design, as far as the space's variables have its values."""
        self._study.sampler = sampler
        fixed = None if design is None else self.spec.space.params_of(design, self._depth) or {}
        waiting = any(r.state == "waiting" for r in history.unfinished)
        return self._storage.ask(self._study, len(history.records), fixed, attributes, noted, waiting=waiting)

    def _suggest(self, trial: Trial) -> Design:
        rate = self.spec.task.recipe.learning_rate
        return self.spec.space.suggest(cast(Suggester, trial), self._depth, rate)
