"""Which designs of a study are confirmed: some of its front, and the known methods to compare them with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.nearest import nearest_preset, published
from utuning_search.designs.presets import parse_presets
from utuning_search.results.metrics import ACCURACY
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pareto import hypervolume, knee
from utuning_search.search.spec import StudySpec
from utuning_search.search.trials import TrialRecord, front_of, standing
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
        validation: Accuracy, or what else finals are judged by, on validation in the search, in [0, 1]; None where the
            search did not try it, or did not measure that.
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

    @property
    def name(self) -> str:
        """Short, for a line of text: the known method it is, or its trial, or its key."""
        return self.preset or (self.design.key if self.trial is None else f"trial {self.trial}")


def select(
    records: list[TrialRecord],
    spec: StudySpec,
    shape: BackboneShape,
    num_classes: int,
    *,
    top: int,
    presets: Sequence[str],
    trials: Sequence[int] = (),
    metric: str = ACCURACY,
) -> list[Finalist]:
    """Designs of the front, the strongest known methods of the study, and those asked for; each design once.

    Args:
        records: Of the study.
        spec: Of the study.
        shape: Of its backbone.
        num_classes: Of its task.
        top: Designs of the front at most.
        presets: Known methods, as for `presets.parse_presets`; the study need not have tried them.
        trials: Numbers of complete trials to take, instead of the front and the strongest known methods.
        metric: What finals will be judged by.

    Raises:
        InputError: An unknown preset or option of one, or a trial that is not complete.
    """
    chosen = (
        *choose(records, top, spec.objectives, Setting(shape, num_classes)),
        *strongest_presets(records, objectives=spec.objectives),
    )
    if trials:
        by_number = {r.number: r for r in records if r.state == "complete" and r.design is not None}
        missing = [n for n in trials if n not in by_number]
        if missing:
            raise InputError("--trial", "it is the number of a complete trial in the study", missing[0])
        chosen = tuple(by_number[n] for n in trials)
    designs = [r.design for r in chosen if r.design]
    known, labels = replace(spec, presets=tuple(presets)).preset_designs(shape.depth), dict[str, str]()
    for text in presets:
        for label in parse_presets(text):
            designs.append(known[label])
            labels.setdefault(known[label].key, label)
    return finalists_of(designs, records, spec.objectives, Setting(shape, num_classes), labels, metric)


def finalists_of(
    designs: Iterable[Design],
    records: Sequence[TrialRecord],
    objectives: Objectives,
    setting: Setting,
    labels: Mapping[str, str],
    metric: str = ACCURACY,
) -> list[Finalist]:
    """Designs with what a study knows of them, by parameters ascending; each once.

    Args:
        designs: Resolved for the backbone's depth.
        records: Of the study.
        objectives: Of the study.
        setting: Of its backbone and task.
        labels: Names of known methods by key, where the study did not try them as such.
        metric: What finals will be judged by.
    """
    tried: dict[str, TrialRecord] = {}
    for record in records:
        if record.state == "complete" and record.design is not None:
            tried.setdefault(record.key, record)
    names = {**labels, **{r.key: r.preset for r in reversed(records) if r.preset and r.key in tried}}
    standing = {r.key for r in front_of(records, objectives)}
    found = []
    for design in dict.fromkeys(designs):
        trial = tried.get(design.key)
        found.append(
            Finalist(
                design=design,
                parameters=design.num_parameters(setting.shape, setting.num_classes),
                tuner_parameters=design.num_parameters(setting.shape),
                preset=names.get(design.key) or published(design, setting.shape.depth),
                nearest=str(nearest_preset(design, setting.shape.depth)),
                validation=None if trial is None else {ACCURACY: trial.accuracy, **trial.values}.get(metric),
                trial=None if trial is None else trial.number,
                on_front=design.key in standing,
            )
        )
    return sorted(found, key=lambda f: (f.parameters, f.design.key))


def choose(records: Sequence[TrialRecord], top: int, objectives: Objectives, setting: Setting) -> list[TrialRecord]:
    """At most `top` trials of the front, spread over it, the cheapest first.

    All of a front that small. Of a larger one the best, the knee and the cheapest in this order; then, one at a time,
    the one that adds most hypervolume to those chosen (of equal ones the cheapest).

    Args:
        records: Of a study.
        top: At least 1.
        objectives: Of the study.
        setting: Of its backbone and task.
    """
    best = front_of(records, objectives)
    if len(best) <= top:
        return best
    good, (quality, cost) = objectives.goodness([r.values for r in best], setting), objectives.columns
    accurate = max(range(len(best)), key=lambda i: (good[i, quality], i))
    chosen = list(dict.fromkeys((accurate, knee(good, quality, cost), 0)))[:top]
    while len(chosen) < top:
        volumes = {i: hypervolume(good[[*chosen, i]]) for i in range(len(best)) if i not in chosen}
        chosen.append(max(volumes, key=lambda i: (volumes[i], -i)))
    return [best[i] for i in sorted(chosen)]


def strongest_presets(
    records: Sequence[TrialRecord], count: int = STRONGEST_PRESETS, objectives: Objectives = USUAL
) -> list[TrialRecord]:
    """The `count` known methods of a study that are best in its first measured objective; of equal ones the smaller."""
    found: dict[str, TrialRecord] = {}
    for record in records:
        if record.preset and standing(record, objectives):
            found.setdefault(record.key, record)
    best = objectives.quality
    return sorted(found.values(), key=lambda r: (-best.gain(r.values[best.name]), r.parameters, r.number))[:count]
