"""What decides a study's trials: space, task, seed, sampler, pruner, precision; its digest and differences."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tomli_w

from utuning_search.common.errors import InputError, StudyError
from utuning_search.designs.design import Design
from utuning_search.designs.presets import parse_presets
from utuning_search.designs.spaces.space import Space
from utuning_search.search.pruning import ParetoPruner
from utuning_search.search.sampling import check_sampler
from utuning_search.training.task import Task

FORMAT = 1
RESTORE = "Put it back as it was written, or start a new study."


@dataclass(frozen=True)
class StudySpec:
    """Everything that the next trial is a function of, besides the history.

    Attributes:
        space: What is searched.
        task: What it is searched on.
        seed: Of the sampler, and with a design's key of its training.
        sampler: "tpe", "random" or "nsga2".
        pruner: None trains every trial to its last epoch.
        precision: "fp32" or "bf16".
        data: Digest of the images, labels and splits.
        presets: Known methods that are tried first besides the space's own, whether they lie in it or not; see
            `presets.parse_presets`.
        max_parameters: Larger designs, head included, are never trained; 0 for no limit.
    """

    space: Space
    task: Task
    seed: int
    sampler: str
    pruner: ParetoPruner | None
    precision: str
    data: str
    presets: tuple[str, ...] = ()
    max_parameters: int = 0

    def __post_init__(self) -> None:
        check_sampler(self.sampler)
        if self.max_parameters < 0:
            raise InputError("max_parameters", "it is at least 1, or 0 for no limit", self.max_parameters)
        for text in self.presets:
            parse_presets(text)

    def preset_designs(self, depth: int) -> dict[str, Design]:
        """What is tried first, by label, all at one learning rate: the space's presets, then the others."""
        rate = self.task.recipe.learning_rate
        found = self.space.preset_designs(depth, rate)
        for text in self.presets:
            for label, placements in parse_presets(text).items():
                found.setdefault(label, Design(placements, self.space.preset_rate(rate)).resolve(depth))
        return found

    def to_dict(self) -> dict[str, Any]:
        pruner: dict[str, Any] = {"kind": "none"} if self.pruner is None else {"kind": "pareto", **asdict(self.pruner)}
        head = {
            "format": FORMAT,
            "seed": self.seed,
            "sampler": self.sampler,
            "precision": self.precision,
            "data": self.data,
        }
        if self.presets:  # left out where there are none, as in studies made before there could be any
            head["presets"] = list(self.presets)
        if self.max_parameters:  # likewise
            head["max_parameters"] = self.max_parameters
        return {**head, "pruner": pruner, "task": self.task.to_dict(), "space": dict(self.space.raw)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "study spec") -> "StudySpec":
        """The spec of `to_dict`.

        Raises:
            StudyError: It has another format, or lacks a part.
            InputError: Its space or task breaks a rule.
        """
        if table.get("format") != FORMAT:
            todo = "Use the version of utuning-search that made the study."
            raise StudyError(where, f"its format is {FORMAT}", table.get("format", "none"), todo)
        try:
            pruner = dict(table["pruner"])
            kind = pruner.pop("kind")
            return cls(
                space=Space.from_dict(table["space"], f"{where}, space"),
                task=Task.from_dict(table["task"], f"{where}, task"),
                seed=table["seed"],
                sampler=table["sampler"],
                pruner=None if kind == "none" else ParetoPruner(**pruner),
                precision=table["precision"],
                data=table["data"],
                presets=tuple(table.get("presets", ())),
                max_parameters=table.get("max_parameters", 0),
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

    def differences(self, other: "StudySpec") -> list[str]:
        """One line a setting: `task.training.epochs: 12 here, 20 there`."""
        mine, theirs = dict(_flat(self.to_dict())), dict(_flat(other.to_dict()))
        return [
            f"{name}: {mine.get(name, 'nothing')} here, {theirs.get(name, 'nothing')} there"
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
