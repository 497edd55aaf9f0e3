"""What decides a study's trials: space, task, seed, sampler, pruner, precision; its digest and differences."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tomli_w

from utuning_search.errors import StudyError
from utuning_search.pruning import ParetoPruner
from utuning_search.sampling import check_sampler
from utuning_search.space import Space
from utuning_search.task import Task

FORMAT = 1


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
    """

    space: Space
    task: Task
    seed: int
    sampler: str
    pruner: ParetoPruner | None
    precision: str
    data: str

    def __post_init__(self) -> None:
        check_sampler(self.sampler)

    def to_dict(self) -> dict[str, Any]:
        pruner: dict[str, Any] = {"kind": "none"} if self.pruner is None else {"kind": "pareto", **asdict(self.pruner)}
        head = {
            "format": FORMAT,
            "seed": self.seed,
            "sampler": self.sampler,
            "precision": self.precision,
            "data": self.data,
        }
        return {**head, "pruner": pruner, "task": self.task.to_dict(), "space": dict(self.space.raw)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "StudySpec":
        if table.get("format") != FORMAT:
            todo = "Use the version of utuning-search that made the study."
            raise StudyError("study spec", f"its format is {FORMAT}", table.get("format"), todo)
        pruner = {k: v for k, v in table["pruner"].items() if k != "kind"}
        return cls(
            space=Space.from_dict(table["space"], "study spec, space"),
            task=Task.from_dict(table["task"], "study spec, task"),
            seed=table["seed"],
            sampler=table["sampler"],
            pruner=None if table["pruner"]["kind"] == "none" else ParetoPruner(**pruner),
            precision=table["precision"],
            data=table["data"],
        )

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> "StudySpec":
        return cls.from_dict(tomllib.loads(text))

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
