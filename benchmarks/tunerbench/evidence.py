"""Whole trainings of a task, from the table that ships, from caches of `Curves` and from recorded studies."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunerbench.live import ENDED, Curve
from tunerbench.play import SETTING, SHAPE
from tunerbench.table import read
from tunerbench.tasks import TASKS
from utuning_search.designs.design import Design
from utuning_search.designs.known_methods import PRESETS
from utuning_search.designs.rates import rate_factor
from utuning_search.results.tables import AT_RUNG, TRIALS_CSV, read_table

IN_PLACE = ("scale_shift", "bias", "norm")
RATE, DEPTHS = 0.005, (6, 12)  # at which, and on backbones of which, known methods were trained in studies
PROBE = "linear probe"


@dataclass(frozen=True)
class Training:
    """A training to the last epoch.

    Attributes:
        name: Equal for equal designs: the known method's at the task's rate, so that backbones of other depths have
            the same, or the key.
        kind: Of the largest placement's tuner; "in place" for scale-shifts, biases and norms. Empty if unknown.
        rate: Peak learning rate.
        suits: The rate that is said to suit it, relative to the task's (`rate_factor`); None if unknown.
        parameters: Trainable, head included.
        curve: Accuracy by epoch.
    """

    name: str
    kind: str
    rate: float
    suits: float | None
    parameters: int
    curve: Curve


@dataclass(frozen=True)
class Evidence:
    """Whole trainings of a task.

    Attributes:
        task: Its name.
        images: Accuracies are measured on.
        epochs: After which all were measured, the last one included.
        first: One training a design.
        again: Further ones, with other seeds.
        short: Designs of which no whole curve is known, most of them stopped by a pruner.
    """

    task: str
    images: int
    epochs: tuple[int, ...]
    first: tuple[Training, ...]
    again: tuple[Training, ...]
    short: int


def evidence(caches: Sequence[Path], studies: Path | None) -> list[Evidence]:
    """By task, those with trainings."""
    images = {name: task.data.validation for name, task in TASKS.items()}
    found = {name: list(_tuner_bench(name, caches)) for name in TASKS}
    for folder in sorted(studies.iterdir()) if studies else ():
        if (folder / TRIALS_CSV).exists():
            task = tomllib.loads((folder / "spec.toml").read_text(encoding="utf-8"))["task"]
            images[task["name"]] = task["data"]["validation"]
            found.setdefault(task["name"], []).extend(_study(folder))
    return [_sorted(name, images[name], trainings) for name, trainings in found.items() if trainings]


def _tuner_bench(task: str, caches: Sequence[Path]) -> Iterator[Training]:
    curves = {(r.design.key, r.repeat): (r.design, r.curve) for r in read(task)}
    for path in (cache / f"{task}.jsonl" for cache in caches):
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            key, _, repeat = row["key"].partition(".")
            curve = {int(epoch): accuracy for epoch, accuracy in row["curve"].items()}
            if len(curve) > len(curves.get((key, int(repeat or 0)), (None, {}))[1]):
                curves[key, int(repeat or 0)] = Design.from_dict(row["design"]), curve
    usual = TASKS[task].recipe.learning_rate
    for (key, _), (design, curve) in sorted(curves.items(), key=lambda item: item[0][1]):
        size = design.num_parameters(SHAPE, SETTING.num_classes)
        known = KNOWN.get(key) or About.of(design, key)
        yield Training(known.name, known.kind, design.learning_rate or usual, known.suits, size, curve)


def _study(folder: Path) -> Iterator[Training]:
    """Trials that were trained; a table says of a design no more than its text, so kinds are those of known methods."""
    table = read_table(folder / TRIALS_CSV)
    columns = {int(c.removeprefix(AT_RUNG)): c for c in map(str, table.columns) if c.startswith(AT_RUNG)}
    for row in table[table["reused"].isna()].to_dict("records"):
        rungs = {e: row[c] for e, c in columns.items() if row[c] == row[c]}
        rate = re.search(r"lr (\S+)$", row["design"])
        known = KNOWN.get(row["key"], About(row["key"]))
        yield Training(known.name, known.kind, float(rate[1]) if rate else RATE, known.suits, row["parameters"], rungs)


def _sorted(task: str, images: int, trainings: Sequence[Training]) -> Evidence:
    """Each curve once: studies of one seed train a design alike."""
    last = max(max(t.curve) for t in trainings)
    whole = [t for t in trainings if last in t.curve and ENDED not in t.curve]
    epochs = set.intersection(*(set(t.curve) for t in whole))
    curves: dict[str, list[Training]] = {}
    for t in whole:
        same = curves.setdefault(t.name, [])
        if all(any(t.curve[e] != s.curve[e] for e in epochs) for s in same):
            same.append(t)
    again = [t for same in curves.values() for t in same[1:]]
    short = {t.name for t in trainings} - curves.keys()
    return Evidence(task, images, tuple(sorted(epochs)), tuple(s[0] for s in curves.values()), tuple(again), len(short))


@dataclass(frozen=True)
class About:
    """What a design's table or its key says of it; see `Training`."""

    name: str
    kind: str = ""
    suits: float | None = None

    @classmethod
    def of(cls, design: Design, name: str) -> "About":
        design = design.resolve(SHAPE.depth)
        if not design.placements:
            return cls(name, PROBE, rate_factor(design, SHAPE.depth))
        kind = max(design.placements, key=lambda p: p.num_parameters(SHAPE)).tuner.kind
        return cls(name, "in place" if kind in IN_PLACE else kind, rate_factor(design, SHAPE.depth))


KNOWN = {
    Design(p.placements(), RATE).resolve(depth).key: About.of(Design(p.placements()), p.name)
    for depth in DEPTHS
    for p in reversed(PRESETS)
}
