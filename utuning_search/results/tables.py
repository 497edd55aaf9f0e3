"""A study's trials, front and finals as tables: trials.csv, front.csv, finals.csv, JSON; the pandas door."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from utuning_search.common.files import write_atomically
from utuning_search.designs.nearest import nearest_preset
from utuning_search.results.finals import Confirmation
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
TRIALS_CSV, FRONT_CSV, FINALS_CSV = "trials.csv", "front.csv", "finals.csv"
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


def front_table(records: Sequence[TrialRecord], depth: int, objectives: Objectives = USUAL) -> pd.DataFrame:
    """The same for the non-dominated trials, the cheapest first, with the known method each is nearest to."""
    best = front_of(records, objectives)
    frame = table(best)
    said = ["" if r.design is None else str(nearest_preset(r.design, depth)) for r in best]
    frame.insert(COLUMNS.index("preset") + 1, NEAREST, said)
    return frame


def write_tables(study: Study) -> None:
    """Write trials.csv and front.csv into the study's folder."""
    records = study.trials()
    best = front_table(records, study.shape.depth, study.objectives)
    for name, frame in ((TRIALS_CSV, table(records)), (FRONT_CSV, best)):
        write_atomically(study.folder / name, frame.to_csv(index=False))


def finals_table(found: Confirmation) -> pd.DataFrame:
    """One row a confirmed design, by parameters ascending; see `finals.Final.to_dict`."""
    frame = pd.DataFrame([f.to_dict() for f in found.finals])
    frame["trial"] = frame["trial"].astype("Int64")
    measured = [c for c in frame.columns if c.startswith("test_") or c in ("validation", "luck", *FINAL_DIGITS)]
    frame[measured] = frame[measured].astype(float)  # what nobody measured is empty
    return frame.round(FINAL_DIGITS)


def write_finals(study: Study, found: Confirmation) -> None:
    """Write finals.csv into the study's folder."""
    write_atomically(study.folder / FINALS_CSV, finals_table(found).to_csv(index=False))


def read_table(path: Path) -> pd.DataFrame:
    """A trials.csv or front.csv as it was written."""
    frame = pd.read_csv(path, dtype={"key": str, "preset": str, "reason": str})
    frame["reused"] = frame["reused"].astype("Int64")
    return frame.fillna({"preset": "", "reason": ""})
