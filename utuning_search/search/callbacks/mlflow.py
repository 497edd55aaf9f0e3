"""MLflow: an experiment a study, a run a trial, with its curve while it trains; the library's one door.

A run is known by a tag that names its trial, final or fresh training. One that is finished is left alone; of one that
is not, of a process that was killed, what is missing is written.
"""

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from utuning_search.common.extras import needs
from utuning_search.designs.spaces.domains import Value
from utuning_search.search.callbacks.base import FinalRecord
from utuning_search.search.callbacks.logger import Logger, final_name, fresh_name, reached
from utuning_search.search.trials import TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TAG = "utuning_search"  # what a run is of: "trial 7", "final ..." or "fresh ..."
PAGE = 1000  # runs a question
LONGEST = 500  # characters of a parameter
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")


class MLflowLogger(Logger):
    """Writes to a tracking server, a database or a folder of MLflow."""

    kind: ClassVar[str] = "mlflow"
    summary: ClassVar[str] = "an MLflow tracking URI: mlflow=URI, or mlflow alone for the one of MLFLOW_TRACKING_URI"

    def __init__(self, place: str) -> None:
        super().__init__(place)
        with needs("mlflow", str(self)):
            import mlflow  # noqa: F401  # before anything begins
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._runs: dict[str, Run] = {}
        self._begun: set[str] = set()  # by this process, and not finished

    def open(self, study: str) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(self.place or None)
        found = self._client.get_experiment_by_name(study)
        self._experiment = self._client.create_experiment(study) if found is None else found.experiment_id
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs([self._experiment], max_results=PAGE, page_token=token or None)
            self._runs |= {run.data.tags[TAG]: run for run in page if TAG in run.data.tags}
            token = page.token or None
        lost = (
            {f"trial {r.number}" for r in self.started.records if r.state == "interrupted"} if self.started else set()
        )
        self._begun = {name for name in lost & set(self._runs) if self._runs[name].info.status == "RUNNING"}

    def on_rung(self, trial: TrialRecord, epoch: int) -> None:
        name = f"trial {trial.number}"
        told = {epoch: trial.measured[epoch]} if name in self._runs else trial.measured
        run = self._run(name)
        for reached_at, values in sorted(told.items()):  # a trial that goes on has some of which nobody was told here
            self._log(run, values, reached_at)

    def on_trial(self, trial: TrialRecord) -> None:
        name = f"trial {trial.number}"
        if self._is_logged(name):
            return
        run = self._run(name)
        known = self._steps(run)
        for epoch, values in sorted(trial.measured.items()):
            self._log(run, {n: v for n, v in values.items() if epoch not in known.get(n, ())}, epoch)
        self._log(run, reached(trial), max(trial.measured, default=0))
        about = {**self.chosen(trial), "reason": trial.reason}
        self._finish(name, about, trial.state)

    def on_final(self, final: FinalRecord) -> None:
        self._log_whole(final_name(final), final, "test")

    def on_remeasured(self, fresh: FinalRecord) -> None:
        self._log_whole(fresh_name(fresh), fresh, "validation")

    def _log_whole(self, name: str, final: FinalRecord, split: str) -> None:
        """A training that is told of at its end."""
        if self._is_logged(name):
            return
        values = {f"{split}_{n}": v for n, v in final.values.items()}
        self._log(self._run(name), {**values, "parameters": final.parameters}, final.epochs)
        about: dict[str, Value] = {"key": final.key, "final": final.name, "design": str(final.design)}
        about |= {"seed": final.seed, "epochs": final.epochs, "reason": final.reason}
        self._finish(name, about, "complete" if final.values else "failed")

    def on_end(self) -> None:
        """Runs of trials that were given back have no other end."""
        while self._begun:
            self._asked.set_terminated(self._runs[self._begun.pop()].info.run_id, "KILLED")

    @property
    def _asked(self) -> "MlflowClient":
        assert self._client is not None, "on_start comes first"
        return self._client

    def _is_logged(self, name: str) -> bool:
        return name in self._runs and self._runs[name].info.status in ("FINISHED", "FAILED")

    def _run(self, name: str) -> "Run":
        if name not in self._runs:
            self._runs[name] = self._asked.create_run(self._experiment, tags={TAG: name}, run_name=name)
            self._begun.add(name)
        return self._runs[name]

    def _steps(self, run: "Run") -> dict[str, set[int]]:
        """Epochs that are logged, by name of what was measured there."""
        names = self._asked.get_run(run.info.run_id).data.metrics
        return {n: {m.step for m in self._asked.get_metric_history(run.info.run_id, n)} for n in names}

    def _log(self, run: "Run", values: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_named(name), value, now, epoch) for name, value in values.items()]
        self._asked.log_batch(run.info.run_id, metrics=metrics)

    def _finish(self, name: str, about: Mapping[str, Value], state: str) -> None:
        from mlflow.entities import Param, RunTag

        run = self._run(name).info.run_id
        params = [Param(_named(n), str(v)[:LONGEST]) for n, v in about.items() if v != ""]
        self._asked.log_batch(run, params=params, tags=[RunTag("state", state)])
        self._asked.set_terminated(run, "FAILED" if state == "failed" else "FINISHED")
        self._runs[name] = self._asked.get_run(run)
        self._begun.discard(name)


def _named(name: str) -> str:
    """A name that MLflow takes."""
    return _NOT_IN_NAMES.sub("_", name)
