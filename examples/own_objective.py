"""My research: a study from Python that weighs an objective and searches a tuner of my own, and its front.

Both are in the distribution beside this script: pip install -e examples/plugin
python examples/own_objective.py digits 48
"""

import sys
from pathlib import Path

from utuning_search import Budget, Space, Study, Task

SPACE = Path(__file__).parent / "plugin" / "glu.toml"
OBJECTIVES = ("accuracy", "parameters", "tuned_blocks")

if __name__ == "__main__":  # workers are processes, which import this script
    task, trials = sys.argv[1:]
    study = Study.create(Space.load(str(SPACE)), Task.load(task), name="own-objective", objectives=OBJECTIVES)
    study.run(Budget(trials=int(trials)), workers=0)
    for trial in study.front():
        values = ", ".join(f"{name} {trial.values[name]:g}" for name in OBJECTIVES)
        print(f"trial {trial.number}: {values}: {trial.design}")
    print(f"hypervolume {study.hypervolume():.3f}")
