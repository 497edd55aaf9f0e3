"""What a user watches while a study or its finals run, and the table at its end."""

import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from utuning_search.cli.console import PLAIN, console
from utuning_search.common.counts import short
from utuning_search.designs.nearest import nearest_preset
from utuning_search.results.confirm import Progress
from utuning_search.results.finalists import Finalist
from utuning_search.results.metrics import words
from utuning_search.results.remeasure import Again
from utuning_search.results.sampling_error import interval_of, near_front, validation_images
from utuning_search.search.defaults import METRICS
from utuning_search.search.objectives.base import Objective
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.runner import Snapshot
from utuning_search.search.study import Study
from utuning_search.search.trials import OVERSIZED, TrialRecord, front_of

SHOWN = 12  # trials named in one line


class Display:
    """A live panel on a terminal, one line a settled trial elsewhere, nothing if quiet."""

    def __init__(self, study: Study, *, quiet: bool) -> None:
        self._study, self._quiet = study, quiet
        self._live = None if quiet or not console.is_terminal else Live(console=console, refresh_per_second=4)
        self._seen: set[int] = {r.number for r in study.trials() if r.settled}

    def __enter__(self) -> "Display":
        if not self._quiet:
            where = f"{self._study.spec.space.name} on {self._study.spec.task.name}, in {self._study.folder}"
            console.print(f"Study {self._study.name}: {where}", **PLAIN)
        if self._live is not None:
            self._live.start()
            self._live.update(Text("Starting workers ..."))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw where the study stands."""
        if self._live is not None:
            self._live.update(_panel(snapshot, self._study.objectives.quality))
        elif not self._quiet:
            for record in snapshot.records:
                if record.settled and record.number not in self._seen:
                    self._seen.add(record.number)
                    console.print(_line(record, snapshot, self._study.objectives), **PLAIN)


def say_progress(progress: Progress, to: Console = console) -> None:
    """One line a finished training."""
    outcome, who = progress.outcome, progress.finalist
    got = f"{100 * outcome.accuracy:.2f}%" if outcome.accuracy is not None else f"failed: {outcome.reason}"
    got += "".join(f", {words(m)} {100 * outcome.others[m]:.2f}%" for m in METRICS if m in outcome.others)
    took = "" if outcome.seconds is None else f" in {outcome.seconds:.0f}s"
    name = who.preset or str(who.design)
    total = "" if progress.total is None else f"/{progress.total}"
    to.print(f"[{progress.done}{total}] {got} on test{took}  seed {outcome.seed}  {name}", **PLAIN)


def say_again(finalist: Finalist, again: Again, to: Console = console) -> None:
    """One line a finished training on the search's own split."""
    got = f"{100 * again.validation:.2f}%" if again.validation is not None else f"failed: {again.reason}"
    before = "" if finalist.validation is None else f", {100 * finalist.validation:.2f}% in the search"
    to.print(f"{got} on validation{before}  fresh seed {again.seed}  {finalist.name}", **PLAIN)


def front_lines(study: Study, records: list[TrialRecord]) -> Iterator[RenderableType]:
    """The table of the front, what stands within its sampling error, and a line that says what it took."""
    images = validation_images(study)
    yield front_table(front_of(records, study.objectives), study)
    near = near_front(records, images, study.objectives)
    if near:
        known = study.objectives
        said = ", ".join(
            f"{r.number}{f' ({r.preset})' if r.preset else ''} {known.quality.text(r.values[known.quality.name])}"
            for r in near[:SHOWN]
        )
        more = f" and {len(near) - SHOWN} more" if near[SHOWN:] else ""
        yield Text(f"Within the sampling error of the front, on {images:,} validation images: trials {said}{more}")
    states = Counter(r.state for r in records if r.settled and r.reused is None)
    reused = sum(r.reused is not None for r in records)
    epochs = sum(r.epochs for r in records)
    counted = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    oversized = sum(r.state == OVERSIZED for r in records)
    refused = f"; {oversized} proposals were larger than allowed" if oversized else ""
    yield Text(
        f"{sum(states.values()) + reused} trials ({counted}, {reused} reused), {epochs} epochs{refused}; "
        f"hypervolume {study.hypervolume():.4f} of {_box(study)}"
    )


def _box(study: Study) -> str:
    """What the hypervolume is a share of."""
    if study.objectives.names == ("accuracy", "parameters"):
        return f"full fine-tuning's box ({short(study.reference)} parameters)"
    bounds = (f"{o.name} {' to '.join(map(o.text, o.bounds(study.setting)))}" for o in study.objectives)
    return f"the box {', '.join(bounds)}"


def front_table(best: list[TrialRecord], study: Study) -> Table:
    """Trial, its objectives, the known method it is nearest to, design; the cheapest first.

    Beside an accuracy stands its 95% interval over the choice of validation images.
    """
    images = validation_images(study)
    first, *others = (o.label.split(",")[0] for o in study.objectives)
    labels = f"{first} against {' and '.join(others)}" if others else first
    table = Table(title=f"Pareto front: {labels}", title_justify="left")
    for name in ("trial", *study.objectives.names):
        table.add_column(name, justify="right", no_wrap=True)
        if name == "accuracy":
            table.add_column("95%", justify="right", no_wrap=True)
    table.add_column("nearest known method", overflow="fold", ratio=2)
    table.add_column("design", overflow="fold", ratio=3)
    for record in best:
        values = [o.text(record.values[o.name]) for o in study.objectives]
        if "accuracy" in study.objectives.names:
            ends = interval_of(record, images) or ()
            values.insert(study.objectives.names.index("accuracy") + 1, "-".join(f"{100 * e:.1f}" for e in ends))
        near = "" if record.design is None else str(nearest_preset(record.design, study.shape.depth))
        table.add_row(str(record.number), *values, near, str(record.design))
    return table


def _panel(snapshot: Snapshot, quality: Objective) -> Panel:
    states = Counter(r.state for r in snapshot.records)
    settled = sum(r.settled for r in snapshot.records)
    complete = [r.values[quality.name] for r in snapshot.records if r.state == "complete" and quality.name in r.values]
    best = quality.text(max(complete, key=quality.gain)) if complete else "-"
    target = snapshot.target or settled
    head = Table.grid(padding=(0, 2))
    head.add_row(
        _bold(settled, f" of {snapshot.target or '?'} trials"),
        f"{len(snapshot.running)} running",
        f"{states['pruned']} pruned",
        f"{states['failed']} failed" if states["failed"] else "",
        f"{_clock(snapshot.elapsed)} so far",
        f"about {_clock(snapshot.remaining)} left" if snapshot.remaining is not None else "",
    )
    body = Table.grid(padding=(0, 2))
    body.add_row(
        Text(f"best {quality.name.replace('_', ' ')} ").append_text(_bold(best)),
        Text("front of ").append_text(_bold(len(snapshot.front))),
        Text("hypervolume ").append_text(_bold(f"{snapshot.hypervolume:.4f}")),
    )
    rows = Table.grid(padding=(0, 2))
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(overflow="ellipsis", no_wrap=True)
    for running in snapshot.running:
        known = running.values.get(quality.name, running.accuracy)
        at = "waiting" if known is None else quality.text(known)
        name = running.preset or str(running.design)
        rows.add_row(Text(f"#{running.trial.number}", "dim"), f"epoch {running.epoch}", at, name)
    bar = ProgressBar(total=max(target, 1), completed=min(settled, target))
    return Panel(Group(head, bar, body, rows), title="utuning-search", title_align="left")


def _bold(value: object, after: str = "") -> Text:
    return Text.assemble((str(value), "bold"), after)


def _line(record: TrialRecord, snapshot: Snapshot, objectives: Objectives) -> str:
    quality = objectives.quality
    value = quality.text(record.values[quality.name]) if quality.name in record.values else "-"
    more = (o for o in objectives if o.name in record.values and o.name not in (quality.name, "parameters"))
    others = "".join(f" {o.text(record.values[o.name])}" for o in more)
    name = f"{record.preset}: {record.design}" if record.preset else str(record.design)
    note = f" (as trial {record.reused})" if record.reused is not None else ""
    note = f" ({record.reason})" if record.reason else note
    standing = " *" if record.number in snapshot.front else ""
    return (
        f"{time.strftime('%H:%M:%S')} trial {record.number:>3} {record.state:<8} {value:>7} "
        f"{short(record.parameters):>6}{others} {record.epochs:>2} ep {name}{note}{standing}"
    )


def _clock(seconds: float | None) -> str:
    whole = round(seconds or 0)
    return (
        f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02d}"
    )
