"""Every place where a tuner may stand, as cases of tests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utuning_search.designs.placement import Placement
from utuning_search.tuners import Scale, TunerConfig

Options = Mapping[str, Any]
SCALES: tuple[Scale, ...] = ("none", "scalar", "channel", 0.5, "gate")


@dataclass(frozen=True)
class Case:
    """One legal placement of one tuner."""

    name: str
    placement: Placement

    @property
    def claims(self) -> TunerConfig:
        """The tuner's config, which states the claims."""
        return self.placement.tuner


def cases(tuner_class: type[TunerConfig], corners: Sequence[Options]) -> Iterator[Case]:
    """A tuner's corner options x legal operations x forms.

    Of two corners one has no scale, and in the other the scales take turns over operations and forms.
    """
    for i, options in enumerate(corners):
        tuner = tuner_class(**options)
        blocks = "first 1" if tuner.once else "all"
        for j, operation in enumerate(tuner.operations):
            for k, form in enumerate(tuner.forms_at(operation)):
                scaled = tuner.scalable and i % 2 == 1
                scale = SCALES[1 + (j + k) % (len(SCALES) - 1)] if scaled else "none"
                parts = (tuner.kind, *options.values(), operation, form, scale)
                yield Case("-".join(map(str, parts)), Placement(operation, tuner, form, scale, blocks))


def readings(found: Sequence[Case]) -> tuple[Case, ...]:
    """Each reading at each operation and form once, in its larger size, with a learned scale where it has one."""
    distinct = {
        (p.operation, type(p.tuner), p.tuner.label, p.form): Case(case.name, p)
        for case in found
        if (p := case.placement).scale in ("scalar", "none") and p.form not in ("mixed", "bypass")
    }
    return tuple(distinct.values())
