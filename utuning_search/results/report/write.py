"""A study's report: what it says, section by section."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from utuning_search.common.counts import counted
from utuning_search.common.files import write_atomically
from utuning_search.designs.nearest import nearest_preset
from utuning_search.designs.presets import title_of
from utuning_search.results.report import charts, effects
from utuning_search.results.report.finals import finals_section
from utuning_search.results.report.page import chart, folded, page, switches, table, text
from utuning_search.results.report.provenance import command_of, facts
from utuning_search.results.sampling_error import interval_of, near_front, validation_images
from utuning_search.search.study import Study
from utuning_search.search.surrogate.importance import LEAST, importance
from utuning_search.search.surrogate.knowledge import Circumstances
from utuning_search.search.trials import TrialRecord


def write_report(study: Study, path: Path) -> None:
    """Write a study's report; the same study, read with the same versions, gives the same file.

    Raises:
        StudyError: The file cannot be written, or one of a confirmation is damaged.
    """
    write_atomically(path, report(study))


def report(study: Study) -> str:
    """The page: front, learning curves, which choices matter, finals, all trials, and where all of it comes from."""
    records, images = study.trials(), validation_images(study)
    known = {r.key: r.design for r in records if r.design is not None and r.settled}
    nearest = {key: str(nearest_preset(design, study.shape.depth)) for key, design in known.items()}
    hover = charts.hovers(records, study.objectives, nearest, images)
    parts = [
        f"<h1>{text(study.name)}</h1>",
        table(("", ""), facts(study, records, images)),
        *_front(study, records, hover, nearest, images),
        *_curves(study, records, hover),
        *_importance(study, records, images),
        *finals_section(study),
        *_trials(study, records, nearest),
        *_origin(study),
    ]
    return page(study.name, parts)


def _front(
    study: Study, records: Sequence[TrialRecord], hover: dict[int, str], nearest: dict[str, str], images: int
) -> Iterator[str]:
    yield "<h2>Front</h2>"
    known, quality = study.objectives, study.objectives.quality
    others = [o for o in known if o.name != quality.name]
    for i, other in enumerate(others or [None]):
        drawn = charts.front_chart(records, known, other, hover, images)
        bars = any("error_y" in trace for trace in drawn["data"])
        yield switches(f"front-{i}", charts.GROUPS, bars=bars, names=True)
        against = "over trials" if other is None else f"against {other.label}"
        yield chart(f"front-{i}", drawn, f"{quality.label} {against}; the numbers are in the tables below.")
    yield (
        '<p class="note">Diamonds are known methods. The axes fit the front: a double click shows all trials. '
        "An interval is of the choice of validation images alone; another training would move a point too.</p>"
    )
    best = charts.by_group(records, known)["front"]
    columns = ["trial", *(o.name.replace("_", " ") for o in known), "95%", "nearest known method", "design"]
    rows = []
    for record in best:
        ends = interval_of(record, images) if "accuracy" in known.names else None
        said = "" if ends is None else f"{100 * ends[0]:.1f}-{100 * ends[1]:.1f}"
        values = [o.text(record.values[o.name]) for o in known]
        rows.append([record.number, *values, said, nearest.get(record.key, ""), record.design or ""])
    yield table(columns, rows, range(len(known) + 2))
    near = near_front(records, images, known)
    if near:
        said = ", ".join(f"{r.number}{f' ({title_of(r.preset)})' if r.preset else ''}" for r in near)
        yield f'<p class="note">Within the sampling error of the front: trials {text(said)}.</p>'


def _curves(study: Study, records: Sequence[TrialRecord], hover: dict[int, str]) -> Iterator[str]:
    quality = study.objectives.quality
    yield "<h2>Learning curves</h2>"
    yield switches("curves", charts.GROUPS)
    drawn = charts.curves_chart(records, study.objectives, study.spec.task.recipe.epochs, hover)
    yield chart("curves", drawn, f"{quality.label} by epoch, a line a trial.")


def _importance(study: Study, records: Sequence[TrialRecord], images: int) -> Iterator[str]:
    quality = study.objectives.quality
    yield "<h2>Which choices matter</h2>"
    given = Circumstances(study.objectives, study.setting, study.spec.task.recipe, images)
    found = importance(records, given, study.spec.space, study.spec.seed)
    if not found:
        yield f"<p>Too few designs of the space were trained to say: it takes {LEAST}.</p>"
        return
    span = effects.span_of(quality, study.setting)
    yield chart("importance", effects.importance_chart(found, quality, span), "The effect of each kind of edit, below.")
    rows = [
        (effects.KINDS.get(i.kind, i.kind), *(f"{span * v:.2f}" for v in (i.effect, i.low, i.high)), i.edits)
        for i in found
    ]
    unit = effects.unit_of(quality)
    yield folded("as a table", table(("choice", f"effect ({unit})", "low", "high", "edits"), rows, range(1, 5)))
    what = text(quality.name.replace("_", " "))
    yield (
        f'<p class="note">By how much {what} changes if one such thing of a design is changed within the space: root '
        "mean square over designs that were tried, by the model that proposes designs (a Gaussian process). Bars are "
        "its 95% intervals: what was hardly tried has a wide one. Sizes are no part of this: they are exact.</p>"
    )


def _trials(study: Study, records: Sequence[TrialRecord], nearest: dict[str, str]) -> Iterator[str]:
    known = study.objectives
    columns = ["trial", *(o.name.replace("_", " ") for o in known), "epochs", "seconds", "state", "nearest", "design"]
    rows = [
        [
            r.number,
            *(o.text(r.values[o.name]) if o.name in r.values else "" for o in known),
            r.epochs,
            f"{r.seconds:.1f}",
            f"as trial {r.reused}" if r.reused is not None else f"{r.state}{f': {r.reason}' if r.reason else ''}",
            nearest.get(r.key, ""),
            r.design or "",
        ]
        for r in records
    ]
    yield "<h2>All trials</h2>"
    yield folded(counted(len(rows), "trial"), table(columns, rows, range(len(known) + 3)))


def _origin(study: Study) -> Iterator[str]:
    command, missing = command_of(study)
    yield "<h2>Made by</h2>"
    yield f"<pre>{text(command)}</pre>"
    if missing:
        yield f'<p class="note">{text(missing)}</p>'
    yield folded("spec.toml", f"<pre>{text(study.spec.to_toml())}</pre>")
    for note in study.notes():
        yield f'<p class="note">{text(note)}</p>'
