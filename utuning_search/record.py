"""A study's trials and front as tables: trials.csv, front.csv, JSON; the pandas door."""

from pathlib import Path

import pandas as pd

from utuning_search.files import write_atomically
from utuning_search.kinship import nearest_preset
from utuning_search.study import Study
from utuning_search.trials import TrialRecord, front_of

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
NEAREST = "nearest"
TRIALS_CSV, FRONT_CSV = "trials.csv", "front.csv"


def table(records: list[TrialRecord]) -> pd.DataFrame:
    """One row a trial: COLUMNS, then the accuracy at each rung."""
    frame = pd.DataFrame([r.to_dict() for r in records])
    if frame.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    rungs = sorted((c for c in frame.columns if c not in COLUMNS), key=lambda c: int(str(c).rsplit("_", 1)[1]))
    frame["reused"] = frame["reused"].astype("Int64")
    return frame[[*COLUMNS, *rungs]]


def front_table(records: list[TrialRecord], depth: int) -> pd.DataFrame:
    """The same for the non-dominated trials, by parameters ascending, with the known method each is nearest to."""
    best = front_of(records)
    frame = table(best)
    said = ["" if r.design is None else str(nearest_preset(r.design, depth)) for r in best]
    frame.insert(COLUMNS.index("preset") + 1, NEAREST, said)
    return frame


def write_tables(study: Study) -> None:
    """Write trials.csv and front.csv into the study's folder."""
    records = study.trials()
    for name, frame in ((TRIALS_CSV, table(records)), (FRONT_CSV, front_table(records, study.shape.depth))):
        write_atomically(study.folder / name, frame.to_csv(index=False))


def read_table(path: Path) -> pd.DataFrame:
    """A trials.csv or front.csv as it was written."""
    frame = pd.read_csv(path, dtype={"key": str, "preset": str, "reason": str})
    frame["reused"] = frame["reused"].astype("Int64")
    return frame.fillna({"preset": "", "reason": ""})
