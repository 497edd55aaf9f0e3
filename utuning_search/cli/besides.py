"""What `confirm` measures of finals besides, where it is asked for: unknown images, corruptions, flipped bits."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from utuning_search.cli.console import PLAIN, console, errors
from utuning_search.cli.ood_display import ood_lines
from utuning_search.cli.options import JSON
from utuning_search.cli.resilience_display import resilience_lines
from utuning_search.results.finals import Confirmation
from utuning_search.results.ood.detect import detect
from utuning_search.results.ood.figures import Detection
from utuning_search.results.ood.table import write_ood
from utuning_search.results.resilience.measure import perturb
from utuning_search.results.resilience.table import Hardship, write_resilience
from utuning_search.search.study import Study


@dataclass(frozen=True)
class Besides:
    """What was measured, and where its tables are."""

    detected: tuple[Detection, ...] = ()
    notes: tuple[str, ...] = ()
    hardships: tuple[Hardship, ...] = ()
    tables: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For --format json."""
        return {"ood": [asdict(r) for r in self.detected], "resilience": [asdict(r) for r in self.hardships]}

    def lines(self) -> Iterator[RenderableType]:
        """For a screen."""
        yield from ood_lines(self.detected, self.notes)
        yield from resilience_lines(self.hardships)


def measured_besides(study: Study, found: Confirmation, arguments: argparse.Namespace) -> Besides:
    """Measure what --ood and --corruptions ask for, and write its tables."""
    to = errors if arguments.format == JSON else console

    def say(what: str) -> None:
        to.print(f"measured  {what}", **PLAIN)

    told: Callable[[str], None] | None = None if arguments.quiet else say
    where: dict[str, Any] = {"device": arguments.device, "data_dir": arguments.data_dir, "on_progress": told}
    found_besides = Besides()
    if arguments.ood:
        rows, notes = detect(study, found, arguments.ood, use=arguments.use, dsgf=arguments.dsgf, **where)
        found_besides = Besides(rows, notes, tables=(write_ood(study.folder, rows),))
    if arguments.corruptions:
        hardships = perturb(study, found, **where)
        path = write_resilience(study.folder, hardships)
        found_besides = replace(found_besides, hardships=hardships, tables=(*found_besides.tables, path))
    return found_besides
