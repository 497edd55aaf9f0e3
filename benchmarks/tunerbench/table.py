"""The table that ships: every training of TunerBench with its curve, in one compressed file.

from tunerbench.table import read
rows = read("digits-200")          # [(Design, {epoch: accuracy}, repeat), ...]
"""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tunerbench.tasks import TASKS
from utuning_search.designs.design import Design

TABLE = Path(__file__).with_name("tunerbench.jsonl.xz")


class Row(NamedTuple):
    """One training: the design, validation accuracy in [0, 1] by epoch, and which of its seeds it was."""

    design: Design
    curve: dict[int, float]
    repeat: int


def read(task: str, path: Path = TABLE) -> list[Row]:
    """All trainings of a task; none where the file is absent."""
    return [row for name, row in _rows(path) if name == task]


def known(task: str, path: Path = TABLE) -> dict[str, dict[int, float]]:
    """The same as `Curves` takes them, by key and repeat."""
    rows = read(task, path)
    return {f"{r.design.key}.{r.repeat}" if r.repeat else r.design.key: r.curve for r in rows}


def pack(caches: list[Path], path: Path = TABLE) -> int:
    """Write what caches of `Curves` hold into one file; number of trainings."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cache in caches:
        for line in cache.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["curve"] and len(row["curve"]) > len(found.get((row["task"], row["key"]), {"curve": {}})["curve"]):
                found[row["task"], row["key"]] = row
    lines = []
    for (task, key), row in sorted(found.items()):
        images = TASKS[task].data.validation
        hits = {epoch: round(accuracy * images) for epoch, accuracy in row["curve"].items()}
        repeat = int(key.partition(".")[2] or 0)
        lines.append(json.dumps([task, repeat, row["design"], hits], separators=(",", ":"), ensure_ascii=False))
    path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    return len(lines)


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    if not path.exists():
        return
    for line in lzma.decompress(path.read_bytes()).decode().splitlines():
        task, repeat, table, hits = json.loads(line)
        images = TASKS[task].data.validation
        yield task, Row(Design.from_dict(table), {int(e): h / images for e, h in hits.items()}, repeat)
