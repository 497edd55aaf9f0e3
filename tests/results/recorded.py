"""The studies that are kept in `studies/`, as far as their tables tell."""

import math
import tomllib
from pathlib import Path

import pandas as pd

from utuning_search.results.tables import AT_RUNG, TRIALS_CSV, read_table
from utuning_search.search.trials import TrialRecord

STUDIES = Path(__file__).resolve().parents[2] / "studies"
RECORDED = sorted(p for p in STUDIES.glob("20*") if p.is_dir())


def recorded_trials(folder: Path) -> list[TrialRecord]:
    """Trials of a recorded study, without their designs."""
    return [_trial(row) for _, row in read_table(folder / TRIALS_CSV).iterrows()]


def validation_of(folder: Path) -> int:
    """Its validation images."""
    spec = tomllib.loads((folder / "spec.toml").read_text(encoding="utf-8"))
    return int(spec["task"]["data"]["validation"])


def _trial(row: pd.Series) -> TrialRecord:
    rungs = {int(str(c).removeprefix(AT_RUNG)): v for c, v in row.items() if str(c).startswith(AT_RUNG)}
    return TrialRecord(
        number=row["trial"],
        state=row["state"],
        key=row["key"],
        design=None,
        preset=row["preset"],
        parameters=row["parameters"],
        accuracy=row["accuracy"],
        epochs=row["epochs"],
        seconds=row["seconds"],
        rungs={epoch: value for epoch, value in rungs.items() if not math.isnan(value)},
        reused=None if pd.isna(row["reused"]) else row["reused"],
        reason=row["reason"],
    )
