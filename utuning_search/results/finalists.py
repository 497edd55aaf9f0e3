"""Which designs of a study are confirmed: some of its front, and the known methods to compare them with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.nearest import nearest_preset
from utuning_search.designs.presets import parse_presets
from utuning_search.search.pareto import hypervolume, knee
from utuning_search.search.spec import StudySpec
from utuning_search.search.trials import TrialRecord, front_of
from utuning_search.tuners import BackboneShape

STRONGEST_PRESETS = 3


@dataclass(frozen=True)
class Finalist:
    """A design to confirm.

    Attributes:
        design: Resolved for the backbone's depth.
        parameters: Trainable, head included.
        tuner_parameters: Without the head.
        preset: Name of the known method it is, or empty.
        nearest: The known method it is nearest to, and what differs.
        validation: Accuracy on validation in the search, in [0, 1]; None where the search did not try it.
        trial: Number of the search's trial, or None.
        on_front: Whether it stands on the search's front.
    """

    design: Design
    parameters: int
    tuner_parameters: int
    preset: str
    nearest: str
    validation: float | None
    trial: int | None
    on_front: bool


def select(
    records: list[TrialRecord],
    spec: StudySpec,
    shape: BackboneShape,
    num_classes: int,
    *,
    top: int,
    presets: Sequence[str],
    reference: int,
    trials: Sequence[int] = (),
) -> list[Finalist]:
    """Designs of the front, the strongest known methods of the study, and those asked for; each design once.

    Args:
        records: Of the study.
        spec: Of the study.
        shape: Of its backbone.
        num_classes: Of its task.
        top: Designs of the front at most.
        presets: Known methods, as for `presets.parse_presets`; the study need not have tried them.
        reference: Parameters of full fine-tuning.
        trials: Numbers of complete trials to take, instead of the front and the strongest known methods.

    Raises:
        InputError: An unknown preset or option of one, or a trial that is not complete.
    """
    complete = [r for r in records if r.state == "complete" and r.design is not None]
    tried: dict[str, TrialRecord] = {}
    for record in complete:
        tried.setdefault(record.key, record)
    labels = {r.key: r.preset for r in reversed(complete) if r.preset}
    standing = {r.key for r in front_of(records)}
    chosen = (*choose(records, top, reference), *strongest_presets(records))
    if trials:
        by_number = {r.number: r for r in complete}
        missing = [n for n in trials if n not in by_number]
        if missing:
            raise InputError("--trial", "it is the number of a complete trial in the study", missing[0])
        chosen = tuple(by_number[n] for n in trials)
    designs = [r.design for r in chosen if r.design]
    known = replace(spec, presets=tuple(presets)).preset_designs(shape.depth)
    for text in presets:
        for label in parse_presets(text):
            designs.append(known[label])
            labels.setdefault(known[label].key, label)
    found = []
    for design in dict.fromkeys(designs):
        trial = tried.get(design.key)
        found.append(
            Finalist(
                design=design,
                parameters=design.num_parameters(shape, num_classes),
                tuner_parameters=design.num_parameters(shape),
                preset=labels.get(design.key, ""),
                nearest=str(nearest_preset(design, shape.depth)),
                validation=None if trial is None else trial.accuracy,
                trial=None if trial is None else trial.number,
                on_front=design.key in standing,
            )
        )
    return sorted(found, key=lambda f: (f.parameters, f.design.key))


def choose(records: list[TrialRecord], top: int, reference: int) -> list[TrialRecord]:
    """At most `top` trials of the front, spread over it, by parameters ascending.

    All of a front that small. Of a larger one the most accurate, the knee and the smallest in this order; then,
    one at a time, the one that adds most hypervolume to those chosen (of equal ones the smallest).

    Args:
        records: Of a study.
        top: At least 1.
        reference: Parameters of full fine-tuning, for the hypervolume.
    """
    best = front_of(records)
    accuracy, parameters = [r.accuracy or 0.0 for r in best], [r.parameters for r in best]
    if len(best) <= top:
        return best
    chosen = list(dict.fromkeys((len(best) - 1, knee(accuracy, parameters), 0)))[:top]
    while len(chosen) < top:
        volumes = {
            i: hypervolume(
                [accuracy[j] for j in (*chosen, i)], [parameters[j] for j in (*chosen, i)], reference=reference
            )
            for i in range(len(best))
            if i not in chosen
        }
        chosen.append(max(volumes, key=lambda i: (volumes[i], -i)))
    return [best[i] for i in sorted(chosen)]


def strongest_presets(records: list[TrialRecord], count: int = STRONGEST_PRESETS) -> list[TrialRecord]:
    """The `count` known methods of a study with the highest validation accuracy; of equal ones the smaller."""
    found: dict[str, TrialRecord] = {}
    for record in records:
        if record.preset and record.state == "complete" and record.accuracy is not None:
            found.setdefault(record.key, record)
    return sorted(found.values(), key=lambda r: (-(r.accuracy or 0.0), r.parameters, r.number))[:count]
