"""What decides a study's trials: space, task, objectives, sampler, pruner ...; its digest and differences."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tomli_w

from utuning_search.common.errors import InputError, StudyError
from utuning_search.designs.design import Design
from utuning_search.designs.legality import misplaced
from utuning_search.designs.presets import Asked, parse_presets
from utuning_search.designs.rates import rate_factor
from utuning_search.designs.spaces.space import Space
from utuning_search.search.defaults import OBJECTIVES as DEFAULT
from utuning_search.search.objectives.base import ExactObjective, Setting
from utuning_search.search.objectives.registry import OBJECTIVES, USUAL, Objectives, objective
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.pruners.registry import pruner
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.registry import sampler
from utuning_search.training.task import Task
from utuning_search.tuners import BackboneShape

FORMAT = 1
OWN, OLD = "own", "task"  # learning rates of known methods, and what they were before there was a choice
RESTORE = "Put it back as it was written, or start a new study."


@dataclass(frozen=True)
class StudySpec:
    """Everything that the next trial is a function of, besides the history.

    Attributes:
        space: What is searched.
        task: What it is searched on.
        seed: Of the sampler, and with a design's key of its training.
        sampler: Proposes designs.
        pruner: Stops trials at rungs.
        precision: "fp32" or "bf16".
        data: Digest of the images, labels and splits.
        presets: Known methods that are tried first besides the space's own, whether they lie in it or not; see
            `presets.parse_presets`.
        limits: (exact objective, largest value) pairs: designs beyond one are proposed but never trained.
        objectives: What a front weighs.
        shape: Of the backbone, once it is known: what that cannot carry is not tried. No part of what is kept.
        rates: Learning rates of known methods: "own", each one that suits it (`rates.rate_factor`) where the space has
            rates, or "task", as in older studies, the task's for all.
    """

    space: Space
    task: Task
    seed: int
    sampler: Sampler
    pruner: Pruner
    precision: str
    data: str
    presets: tuple[str, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()
    objectives: Objectives = USUAL
    rates: str = OWN
    shape: BackboneShape | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", tuple(sorted(self.limits)))
        for name, value in self.limits:
            exact_objective(name, "limits")
            if not value > 0:
                raise InputError(f"limits, {name}", "a limit is above 0", value)
        for text in self.presets:
            parse_presets(text)
        if self.rates not in (OWN, OLD):
            raise InputError("rates", f"rates is {OWN} or {OLD}", repr(self.rates))

    def on(self, shape: BackboneShape) -> "StudySpec":
        """The spec on a backbone: its space without what that cannot carry.

        Raises:
            InputError: The space has nothing that it can carry.
        """
        return replace(self, space=self.space.on(shape), shape=shape)

    @property
    def max_parameters(self) -> int:
        """The largest number of trainable parameters, head included; 0 for no limit."""
        return int(dict(self.limits).get("parameters", 0))

    def preset_designs(self, depth: int) -> dict[str, Design]:
        """What is tried first, by label: the space's presets, then the others.

        What the backbone cannot carry, once that is known, is left out.
        """
        found = {p.name: Asked(p.placements()) for p in self.space.presets}
        for text in self.presets:
            for label, asked in parse_presets(text).items():
                found.setdefault(label, asked)
        designs = {label: Design(*asked).resolve(depth) for label, asked in found.items()}
        return {label: self._at_rate(design, depth) for label, design in designs.items() if self._carried(design)}

    def _carried(self, design: Design) -> bool:
        return self.shape is None or misplaced(design, self.shape) is None

    def _at_rate(self, design: Design, depth: int) -> Design:
        if design.learning_rate is not None:
            return design
        own = self.rates == OWN and self.space.learning_rate is not None
        factor = rate_factor(design, depth) if own else 1.0
        return replace(design, learning_rate=self.space.preset_rate(factor * self.task.recipe.learning_rate))

    def beyond(self, design: Design, setting: Setting) -> str:
        """Why a design is larger than the study allows, such as "more than 50,000 parameters"; or empty."""
        for name, limit in self.limits:
            known = exact_objective(name, "limits")
            if known.value(design, setting) > limit:
                return f"more than {limit:,.0f} {known.unit}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        head = {
            "format": FORMAT,
            "seed": self.seed,
            "sampler": self.sampler.to_raw(),
            "precision": self.precision,
            "data": self.data,
        }
        # Left out where they say nothing, as in studies made before there were any.
        if self.presets:
            head["presets"] = list(self.presets)
        if self.max_parameters:
            head["max_parameters"] = self.max_parameters
        others = {name: value for name, value in self.limits if name != "parameters"}
        if others:
            head["limits"] = others
        if self.rates != OLD:
            head["rates"] = self.rates
        if self.objectives.names != DEFAULT:
            head["objectives"] = list(self.objectives.names)
        return {**head, "pruner": self.pruner.to_dict(), "task": self.task.to_dict(), "space": dict(self.space.raw)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "study spec") -> "StudySpec":
        """The spec of `to_dict`.

        Raises:
            StudyError: It has another format, or lacks a part.
            InputError: Its space or task breaks a rule, or nothing is registered by the name of an objective, a sampler
                or a pruner.
        """
        if table.get("format") != FORMAT:
            todo = "Use the version of utuning-search that made the study."
            raise StudyError(where, f"its format is {FORMAT}", table.get("format", "none"), todo)
        for name, kind in (("seed", int), ("precision", str), ("data", str)):
            if not isinstance(table.get(name, kind()), kind):
                raise InputError(f"{where}, {name}", f"this is of type {kind.__name__}", repr(table[name]), RESTORE)
        try:
            limits = dict(table.get("limits", {}))
            if table.get("max_parameters"):
                limits["parameters"] = table["max_parameters"]
            return cls(
                space=Space.from_dict(table["space"], f"{where}, space"),
                task=Task.from_dict(table["task"], f"{where}, task"),
                seed=table["seed"],
                sampler=sampler(table["sampler"], f"{where}, sampler"),
                pruner=pruner(table["pruner"], f"{where}, pruner"),
                precision=table["precision"],
                data=table["data"],
                presets=tuple(table.get("presets", ())),
                limits=tuple(limits.items()),
                objectives=Objectives(tuple(table.get("objectives", DEFAULT))),
                rates=table.get("rates", OLD),
            )
        except KeyError as error:
            raise StudyError(where, f"it has {error}", "nothing", RESTORE) from None
        except (AttributeError, TypeError) as error:
            raise StudyError(where, "it is what the study was created with", error, RESTORE) from None

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_dict())

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits; descriptions do not count."""
        return hashlib.sha256(json.dumps(dict(_flat(self.to_dict())), sort_keys=True).encode()).hexdigest()[:12]

    def differences(self, other: "StudySpec", here: str = "here", there: str = "there") -> list[str]:
        """One line a setting: `task.training.epochs: 12 here, 20 there`."""
        mine, theirs = dict(_flat(self.to_dict())), dict(_flat(other.to_dict()))
        return [
            f"{name}: {mine.get(name, 'nothing')} {here}, {theirs.get(name, 'nothing')} {there}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in ("description", "reference"):
                yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}[{i}]")
    else:
        yield prefix, value


def exact_objective(name: str, where: str) -> ExactObjective:
    """The objective of a name, which has to be known before training."""
    found = objective(name, where)
    if not isinstance(found, ExactObjective):
        known = ", ".join(n for n, o in OBJECTIVES.items() if o.exact)
        rule = "a limit is set on an objective that is exact before training"
        raise InputError(where, rule, f"'{name}'", f"Exact are: {known}.")
    return found
