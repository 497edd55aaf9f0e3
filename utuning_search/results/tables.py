"""A study's trials, front and finals as tables: trials.csv, front.csv, finals.csv and finals/*.csv; the pandas door."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from utuning_search.common.files import write_atomically
from utuning_search.designs.nearest import nearest_preset
from utuning_search.results.classes import per_class
from utuning_search.results.finals import Confirmation
from utuning_search.results.outcomes import FINALS
from utuning_search.results.sampling_error import interval_of, validation_images
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord, front_of

COLUMNS = (
    "trial",
    "state",
    "key",
    "design",
    "preset",
    "parameters",
    "accuracy",
    "epochs",
    "seconds",
    "reused",
    "reason",
)
NEAREST, AT_RUNG = "nearest", "accuracy_epoch_"
LOW, HIGH = "accuracy_low", "accuracy_high"
TRIALS_CSV, FRONT_CSV, FINALS_CSV = "trials.csv", "front.csv", "finals.csv"
COMPARISONS_CSV = "comparisons.csv"  # in finals/, as the next three, which begin with a key
CLASSES_CSV, CONFUSION_CSV, CALIBRATION_CSV = "_classes.csv", "_confusion.csv", "_calibration.csv"
COMPARED = ("a", "b", "difference", "low", "high", "p", "p_corrected", "verdict", "a_key", "b_key", "metric")
FINAL_DIGITS = {"seconds": 2, "memory_mb": 1, "inference_ratio": 3, "merged_ratio": 3}  # accuracies are kept whole


def table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row a trial: COLUMNS, after accuracy the study's other objectives, and last the accuracy at each rung."""
    frame = pd.DataFrame([r.to_dict() for r in records])
    if frame.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    at_rungs = [c for c in frame.columns if str(c).startswith(AT_RUNG)]
    rungs = sorted(at_rungs, key=lambda c: int(str(c).removeprefix(AT_RUNG)))
    others = [c for c in frame.columns if c not in (*COLUMNS, *at_rungs)]
    frame["reused"] = frame["reused"].astype("Int64")
    after = COLUMNS.index("accuracy") + 1
    return frame[[*COLUMNS[:after], *others, *COLUMNS[after:], *rungs]]


def front_table(
    records: Sequence[TrialRecord], depth: int, objectives: Objectives = USUAL, images: int | None = None
) -> pd.DataFrame:
    """The same for the non-dominated trials, the cheapest first, with the known method each is nearest to.

    With the number of validation `images` also the 95% interval of accuracy over the choice of images.
    """
    best = front_of(records, objectives)
    frame = table(best)
    for name, end in ((HIGH, 1), (LOW, 0)):
        ends = [None if (known := interval_of(r, images)) is None else known[end] for r in best]
        frame.insert(COLUMNS.index("accuracy") + 1, name, pd.Series(ends, dtype=float))
    said = ["" if r.design is None else str(nearest_preset(r.design, depth)) for r in best]
    frame.insert(COLUMNS.index("preset") + 1, NEAREST, said)
    return frame


def write_tables(study: Study) -> None:
    """Write trials.csv and front.csv into the study's folder."""
    records = study.trials()
    best = front_table(records, study.shape.depth, study.objectives, validation_images(study))
    for name, frame in ((TRIALS_CSV, table(records)), (FRONT_CSV, best)):
        write_atomically(study.folder / name, frame.to_csv(index=False))


def finals_table(found: Confirmation) -> pd.DataFrame:
    """One row a confirmed design, by parameters ascending; see `finals.Final.to_dict`."""
    names = {f.key: f.finalist.name for f in found.finals}
    frame = pd.DataFrame([f.to_dict(names) for f in found.finals])
    frame["trial"] = frame["trial"].astype("Int64")
    measured = [c for c in frame.columns if c.startswith(("test_", "validation")) or c in FINAL_DIGITS]
    frame[measured] = frame[measured].astype(float)  # what nobody measured is empty
    return frame.round(FINAL_DIGITS)


def comparisons_table(found: Confirmation) -> pd.DataFrame:
    """One row a pair of finals, COMPARED: what is known of a against b; a is no larger."""
    names = {f.key: f.finalist.name for f in found.finals}
    rows = [
        (names[c.a], names[c.b], c.difference, c.low, c.high, c.p, c.corrected, c.verdict, c.a, c.b, c.metric)
        for c in found.comparisons
    ]
    return pd.DataFrame(rows, columns=list(COMPARED))


def write_finals(study: Study, found: Confirmation) -> None:
    """Write finals.csv into the study's folder; into finals/ how they compare, which classes each confuses and
    how sure each is."""
    write_atomically(study.folder / FINALS_CSV, finals_table(found).to_csv(index=False))
    folder = study.folder / FINALS
    write_atomically(folder / COMPARISONS_CSV, comparisons_table(found).to_csv(index=False))
    for final in found.finals:
        each = per_class(final, len(found.classes))
        if each is not None:
            columns = {
                "class": found.classes,
                "precision": each.precision,
                "recall": each.recall,
                "support": each.support,
            }
            write_atomically(folder / f"{final.key}{CLASSES_CSV}", pd.DataFrame(columns).to_csv(index=False))
            confused = pd.DataFrame(each.confusion, index=pd.Index(found.classes, name="true"), columns=found.classes)
            write_atomically(folder / f"{final.key}{CONFUSION_CSV}", confused.to_csv())
        sure = final.calibration
        if sure is not None:
            columns = {"from": sure.edges[:-1], "to": sure.edges[1:], "answers": sure.answers}
            columns |= {"confidence": sure.confidence, "accuracy": sure.accuracy}
            write_atomically(folder / f"{final.key}{CALIBRATION_CSV}", pd.DataFrame(columns).to_csv(index=False))


def read_table(path: Path) -> pd.DataFrame:
    """A trials.csv or front.csv as it was written."""
    frame = pd.read_csv(path, dtype={"key": str, "preset": str, "reason": str})
    frame["reused"] = frame["reused"].astype("Int64")
    return frame.fillna({"preset": "", "reason": ""})
