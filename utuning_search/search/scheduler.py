"""The trial flow: ask, decide, tell. What happens to a design that is tried, and what is kept of it."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, cast

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from utuning_search.common.errors import StudyError
from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.search.checkpoints import Checkpoints
from utuning_search.search.history import CHECKPOINT, UNPROVEN, History, Peers
from utuning_search.search.leases import Leases
from utuning_search.search.ledger import Ledger
from utuning_search.search.objectives.base import Setting
from utuning_search.search.patience import patient
from utuning_search.search.proposals import Proposals
from utuning_search.search.pruners.base import Rung
from utuning_search.search.running import Next, Running
from utuning_search.search.sampled import SampledStorage
from utuning_search.search.spec import StudySpec
from utuning_search.search.trials import OVERSIZED, TrialRecord
from utuning_search.training.checkpoint import Checkpoint
from utuning_search.training.pool import Job
from utuning_search.training.proxy import Report, Result

MOST_LOSSES = 3  # workers that one design may take down, each proven by another one, before it counts as failed
RETRIED = "retried"  # user attribute of a study: numbers of failed trials that were given back


class Scheduler:
    """Decides for one study. It neither trains nor waits.

    Args:
        study: The Optuna study.
        storage: Its storage.
        spec: What decides its trials.
        setting: Of the backbone and the task.
        owner: Marks the trials that this study folder started.
        keep_weights: Called with a trial's number and its weights before it is told as complete.
        checkpoints: Where those of its trials lie; None keeps none.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        spec: StudySpec,
        setting: Setting,
        owner: str,
        keep_weights: Callable[[int, bytes], None],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._storage, self.spec, self.setting = storage, spec, setting
        self._served = patient(storage)
        self._seen = SampledStorage(storage, spec.space)
        self._study = optuna.load_study(
            study_name=study.study_name, storage=cast(BaseStorage, self._seen), sampler=study.sampler
        )
        self._keep_weights, self._checkpoints = keep_weights, checkpoints
        self._proposals = Proposals(self._study, self._seen, spec, setting)
        self._ledger = Ledger(self._study, storage, spec.objectives)
        self.leases = Leases(study, storage, owner)
        self._history = self._read()

    def _read(self) -> History:
        return History(
            lambda: self._storage.get_all_trials(self._ledger.study_id, deepcopy=False),
            lambda number: self._storage.get_trial(self._ledger.trial_id(number)),
            self.spec.task.recipe.batch_size,
            self.spec.objectives,
            self._study.user_attrs.get(RETRIED, ()),
            # In a database each trial is a question of its own, and one question has all that is new.
            one_by_one=self._served is None,
        )

    @property
    def study_name(self) -> str:
        return self._study.study_name

    @property
    def history(self) -> History:
        """What was tried, as it is in the storage now."""
        return self._history.refresh()

    @property
    def recent(self) -> History:
        """The same, but for what other processes began since `history` or `ask` looked, where that is quicker."""
        # In a database each trial is a question of its own, and one question has all that is new.
        quick = self._history.records and self._served is None
        return self._history.look() if quick else self.history

    def turn(self) -> AbstractContextManager[bool]:
        """Whether it is this process's turn to choose a trial, while it is entered; see `PatientStorage.turn`."""
        return nullcontext(True) if self._served is None else self._served.turn(self._ledger.study_id)

    def wait_by(self, pause: Callable[[float], None], say: Callable[[str], None]) -> None:
        """How a storage that is away is waited for, and where that is told."""
        if self._served is not None:
            self._served.pause, self._served.say = pause, say

    def hurry(self) -> None:
        """Wait for no storage any more that is away: this process is asked to end."""
        if self._served is not None:
            self._served.hurry()

    def records(self) -> list[TrialRecord]:
        """All trials, by number."""
        return list(self.history.records)

    def reap(self) -> None:
        """Mark trials that this folder started and never finished as interrupted, and no others."""
        for number in self.leases.mine():
            self._ledger.interrupt(number)

    def reap_strays(self, known: Collection[int]) -> None:
        """The same for own trials that nobody here knows: written twice, as the answer to the first time was lost."""
        for number in self.leases.mine() if self._served is not None else ():
            if number not in known:
                self._ledger.interrupt(number)

    def reap_lapsed(self) -> None:
        """The same for trials of others that give no sign of life any more; to be called often."""
        for number in self.leases.lapsed():
            self._ledger.interrupt(number)

    def retry_failed(self) -> int:
        """Give all failed trials back, so that the same designs are tried again; how many there were."""
        failed = [r.number for r in self.history.records if r.state == "failed"]
        if failed:
            before = self._study.user_attrs.get(RETRIED, [])
            self._storage.set_study_user_attr(self._ledger.study_id, RETRIED, sorted({*before, *failed}))
            self._history = self._read()
        return len(failed)

    def ask(self) -> tuple[Running, Next]:
        """The next trial, proposed, sized and recorded, and what happens to it; see `Next`."""
        while True:
            with suppress(UpdateFinishedTrialError):  # an enqueued one, of which somebody thought that it is left over
                running = self._asked()
                self._history.look(running.number)
                if self._has_its_place(running.number):
                    return running, self.decide(running)

    def _has_its_place(self, number: int) -> bool:
        """Whether a new trial alone has its index; where an earlier one has it too, the new one is given back.

        A server that is restarted takes the turn from whoever is choosing, and another process chooses by the same
        history. Or it has written a trial and could not say so: that one is this process's, and nobody here knows it.
        """
        for twin in self._history.twins(number):
            mine = self._history.owner(twin) == self.leases.owner
            self._ledger.interrupt(twin if mine else number)
            if not mine:
                return False
        return True

    def _asked(self) -> Running:
        history = self.history
        index = history.free_index()
        trial, design, preset = self._proposals.next(index, history)
        exact = self.spec.objectives.exact_values(design, self.setting)
        parameters = design.num_parameters(self.setting.shape, self.setting.num_classes)
        attributes: dict[str, Any] = {"owner": self.leases.owner, "key": design.key, "design": design.to_dict()}
        attributes["parameters"] = parameters
        others = {name: value for name, value in exact.items() if name != "parameters"}
        if others:
            attributes["exact"] = others
        for name, value in {**attributes, "index": index}.items():
            trial.set_user_attr(name, value)
        seed = derive_seed(self.spec.seed, f"training {design.key}")
        return Running(self._seen.write(trial), design, parameters, exact, preset, seed)

    def decide(self, running: Running) -> Next:
        """What happens to a trial now: of `ask`, or again of one that waited."""
        try:
            return self._decided(running)
        except UpdateFinishedTrialError:
            return Next.GONE

    def _decided(self, running: Running) -> Next:
        history, key = self.recent, running.design.key
        if history.records[running.number].state == "interrupted":
            return Next.GONE
        reason = self.spec.beyond(running.design, self.setting)
        if reason:
            # Samplers see a pruned trial without a value, and so learn to propose smaller ones.
            running.trial.set_user_attr("reason", reason)
            running.trial.set_user_attr(OVERSIZED, True)
            self._ledger.tell(running.number, None, TrialState.PRUNED)
            return Next.TOO_LARGE
        earlier = history.outcome(key, running.number)
        if earlier is not None:
            self._ledger.reuse(running, earlier)
            return Next.REUSED
        return Next.WAIT if history.in_training(key, running.number) else Next.TRAIN

    def rung(self, running: Running, report: Report) -> bool:
        """Keep a report; whether the trial goes on."""
        with self._ledger.open(running) as ours:
            if ours:
                return self._reported(running, report)
        return False

    def _reported(self, running: Running, report: Report) -> bool:
        running.epoch, running.values, running.accumulation = report.epoch, report.values, report.accumulation
        running.measured[report.epoch] = report.values
        self._ledger.rung(running.trial, report.epoch, report.values)
        # Known methods are what a front is read against, so they are always measured in full.
        if report.epoch >= self.spec.task.recipe.epochs or running.preset:
            return True
        history = self.recent
        rung = Rung(
            epoch=report.epoch,
            number=running.number,
            measured=running.measured,
            own=Peers(*(np.array([row]) for row in history.gains(report.values, running.exact))),
            peers=history.peers(report.epoch, but=running.number),
            history=history.records,
            objectives=self.spec.objectives,
            setting=self.setting,
            recipe=self.spec.task.recipe,
            validation=self.spec.task.data.validation,
        )
        return not self.spec.pruner.prunes(rung)

    def job(self, running: Running) -> Job:
        """What is trained of a trial that begins: from the last checkpoint of its design, if there is one.

        What was measured before is the trial's own then, and is not reported again.
        """
        key, found = running.design.key, None
        if self._checkpoints is not None and self.recent.saved(key):
            with suppress(StudyError):  # what cannot be read costs no more than a training from the start
                found = self._checkpoints.find(key)
            if found is not None:
                running.begun = self._checkpoints.file(key)
                with self._ledger.open(running) as ours:
                    if ours:
                        self._go_on(running, found)
        return running.job

    def _go_on(self, running: Running, found: Checkpoint) -> None:
        running.seconds = found.seconds
        for epoch, values in sorted(found.measured.items()):
            running.epoch, running.values = epoch, values
            running.measured[epoch] = values
            self._ledger.rung(running.trial, epoch, values)
        running.trial.set_user_attr(CHECKPOINT, found.epoch)

    def saved(self, running: Running, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint: the file first, so that whatever is told of can be read."""
        if self._checkpoints is None:
            return
        with self._ledger.open(running) as ours:
            if ours:
                try:
                    self._checkpoints.keep(running.design.key, checkpoint)
                except StudyError:  # a full disk is met, and told, by whoever keeps a result; until then it trains on
                    return
                running.trial.set_user_attr(CHECKPOINT, checkpoint.epoch)

    def paused(self, running: Running, checkpoint: Checkpoint | None) -> None:
        """Give a trial back that was asked to stop, with its checkpoint."""
        if checkpoint is not None:
            self.saved(running, checkpoint)
        self._ledger.interrupt(running.number)

    def _forget(self, running: Running) -> None:
        """A trial has its outcome: nobody goes on from its checkpoint any more."""
        if self._checkpoints is not None and self.recent.saved(running.design.key):
            self._checkpoints.remove(running.design.key)

    def sweep(self) -> None:
        """Remove checkpoints in the study's folder of designs that are settled."""
        if self._checkpoints is not None:
            history = self.history
            self._checkpoints.sweep(lambda key: history.outcome(key, len(history.records)) is not None)

    def pruned(self, running: Running, seconds: float) -> None:
        with self._ledger.open(running) as ours:
            if ours:
                self._ledger.close(running, running.seconds + seconds)
                self._ledger.tell(running.number, None, TrialState.PRUNED)
                self._forget(running)

    def done(self, running: Running, result: Result) -> None:
        """Keep a finished trial: weights first, so that whatever is told as complete can be exported."""
        with self._ledger.open(running) as ours:
            if ours:
                self._keep_weights(running.number, result.weights)
                self._completed(running, result)

    def _completed(self, running: Running, result: Result) -> None:
        running.values, running.accumulation = result.values, result.accumulation
        self._ledger.close(running, result.seconds)
        known = {**running.exact, **result.values}
        # Accuracy is kept in any case; of the objectives Optuna has it.
        others = {name: value for name, value in result.values.items() if name not in self.spec.objectives.names}
        if others:
            running.trial.set_user_attr("final", others)
        self._ledger.tell(running.number, [known[name] for name in self.spec.objectives.names], TrialState.COMPLETE)
        self._forget(running)

    def failed(self, running: Running, reason: str, seconds: float) -> None:
        """Keep why a trial has no result; the study goes on."""
        with self._ledger.open(running) as ours:
            if ours:
                running.trial.set_user_attr("reason", reason)
                self._ledger.close(running, running.seconds + seconds)
                self._ledger.tell(running.number, None, TrialState.FAIL)
                self._forget(running)

    def lost(self, running: Running, reason: str, seconds: float, *, proven: bool = True) -> bool:
        """A worker was lost at a trial: it is given back, unless its design took down too many that worked.

        Args:
            running: The trial.
            reason: How the worker was lost.
            seconds: Trained.
            proven: Whether the worker had trained another one, as far as it went, since it was started. One that
                never did tells nothing of a design.

        Returns:
            Whether the design counts as failed now.
        """
        with self._ledger.open(running) as ours:
            if not ours:
                return False
            if proven and self.recent.losses(running.design.key) + 1 >= MOST_LOSSES:
                self.failed(running, reason, seconds)
                return True
            if not proven:
                running.trial.set_user_attr(UNPROVEN, True)
            running.trial.set_user_attr("reason", reason)
            self._ledger.interrupt(running.number)
        return False

    def suspected(self, running: Running) -> bool:
        """Whether workers were lost at a trial's design, so that the next one has to be proven first."""
        return self.recent.lost(running.design.key)

    def proof(self, running: Running) -> Job:
        """What proves a worker: another design that was trained before, the last one, or else the linear probe."""
        design = self.recent.trained(but=running.design.key) or Design()
        return Job(design, derive_seed(self.spec.seed, f"training {design.key}"))
