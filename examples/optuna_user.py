"""My Optuna study: plain Optuna reads what a search left; utuning_search only says what a design is.

python examples/optuna_user.py studies/full-digits
"""

import sys
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from utuning_search import Design

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.load_study(study_name=folder.name, storage=storage)
    print(study.metric_names, [direction.name for direction in study.directions])
    for trial in study.best_trials:  # Optuna's Pareto front
        print(trial.number, trial.values, Design.from_dict(trial.user_attrs["design"]))
    frame = study.trials_dataframe(attrs=("number", "state", "values", "params"))
    print(frame.head().to_string())
