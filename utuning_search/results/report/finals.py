"""What a report says of finals: a table, how they compare, what they confuse, and what else was measured of them."""

from collections.abc import Iterator

from utuning_search.common.counts import counted
from utuning_search.designs.presets import title_of
from utuning_search.results.classes import per_class
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.kept import kept_confirmation
from utuning_search.results.metrics import words
from utuning_search.results.ood.summary import columns, figure, summary
from utuning_search.results.ood.table import read_ood
from utuning_search.results.pictures.confusion import MOST_CLASSES
from utuning_search.results.report import finals_charts
from utuning_search.results.report.page import chart, choice, table, text
from utuning_search.results.resilience.summary import columns as troubles
from utuning_search.results.resilience.summary import summary as hardships
from utuning_search.results.resilience.table import read_resilience
from utuning_search.results.words import readings
from utuning_search.search.study import Study


def finals_section(study: Study) -> Iterator[str]:
    found, others = kept_confirmation(study)
    if found is None:
        return
    yield "<h2>Finals</h2>"
    augmented = "" if found.augmented else ", not augmented"
    yield (
        f"<p>{counted(found.epochs, 'epoch')} on all training images{augmented}, {found.test_images:,} test images, "
        f"{counted(found.seeds, 'seed')}.</p>"
    )
    about = f"Test {words(found.metric)} against trainable parameters, as in the table."
    yield chart("finals", finals_charts.finals_chart(found), about)
    yield table(*_finals_table(found), range(1, 6))
    yield "".join(f'<p class="note">{text(line)}</p>' for line in readings(found))
    if others:
        yield f'<p class="note">{counted(others, "training")} of other lengths or images are not shown.</p>'
    yield from _unknown(study)
    yield from _in_trouble(study)
    if len(found.classes) > MOST_CLASSES:
        said = f"Confusion matrices of more than {MOST_CLASSES} classes are in finals/*_confusion.csv."
        yield f'<p class="note">{said}</p>'
        return
    each = {_called(f): shown for f in found.finals if (shown := per_class(f, len(found.classes)))}
    if each:
        yield "<h2>Confusion</h2>"
        about = "Share of each class's test images that are taken for each class."
        panels = {
            name: chart(f"confusion-{i}", finals_charts.confusion_chart(shown, found.classes), about)
            for i, (name, shown) in enumerate(each.items())
        }
        yield choice(panels, "confusion", "Of")


def _unknown(study: Study) -> Iterator[str]:
    """What confirm --ood found."""
    lines = summary(read_ood(study.folder))
    if not lines:
        return
    names = columns(lines)
    rows = [
        [
            line.outliers,
            line.name,
            line.method,
            f"{100 * line.accuracy:.1f}",
            *(figure(line.scores.get(score), intervals=True) for score in names),
        ]
        for line in lines
    ]
    yield "<h2>Unknown images</h2>"
    head = ("unknown images", "design", "method", "accuracy %", *names.values())
    yield table(head, rows, range(3, len(head)))
    yield (
        '<p class="note">By each score: AUROC / share of unknown images that pass where 95% of the test images do, in '
        "%; means over seeds, with 95% intervals over the choice of images. All of it is in ood.csv.</p>"
    )


def _in_trouble(study: Study) -> Iterator[str]:
    """What confirm --corruptions found."""
    lines = hardships(read_resilience(study.folder))
    if not lines:
        return
    names = troubles(lines)
    head = ("design", "clean %", *names.values())
    rows = [(line.name, f"{100 * line.clean:.1f}", *map(line.cell, names)) for line in lines]
    yield "<h2>In trouble</h2>"
    yield table(head, rows, range(1, len(head)))
    yield (
        '<p class="note">Accuracy in % on corrupted test images, at severities 1 / 2 / 3, and with random bits of the '
        "tuner's weights flipped at each rate (mean of draws); of the training that an export takes. All of it is in "
        "resilience.csv.</p>"
    )


def _finals_table(found: Confirmation) -> tuple[list[str], list[list[object]]]:
    columns = [
        "design",
        f"test {words(found.metric)} %",
        "95%",
        "validation %",
        "parameters",
        "seeds",
        "survives",
        "nearest",
        "placements",
    ]
    rows: list[list[object]] = []
    for final in found.finals:
        who = final.finalist
        mean = "failed" if final.mean is None else f"{100 * final.mean:.2f}"
        spread = "" if final.sd is None else f" ± {100 * final.sd:.2f}"
        rows.append(
            [
                _called(final),
                mean + spread,
                "" if final.interval is None else "-".join(f"{100 * end:.1f}" for end in final.interval),
                "" if who.validation is None else f"{100 * who.validation:.2f}",
                f"{who.parameters:,}",
                len(final.outcomes),
                "yes" if final.survives else "no",
                who.nearest,
                who.design,
            ]
        )
    return columns, rows


def _called(final: Final) -> str:
    return title_of(final.finalist.preset) or final.finalist.name
