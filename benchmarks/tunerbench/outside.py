"""Rivals from packages of their own, driven as their documentation says; install what the message names.

OptunaHub downloads what it loads; where there is no network, say in OPTUNAHUB_REGISTRY where a copy of the folder
`package` of its registry lies.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna

from tunerbench.live import ENDED, Curves
from tunerbench.play import SETTING, Played, Point, cold
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Choice, Domain, IntRange
from utuning_search.designs.spaces.guided import Guided
from utuning_search.search.objectives.cost import full_fine_tuning

STARTUP = 5  # trials before the median prunes, Optuna's default


def optunahub(curves: Curves, seed: int, budget: int) -> Played:
    """Optuna's TPE with OptunaHub's multi_metric_pruner: the median of Pareto ranks."""
    try:
        import optunahub as hub
    except ImportError:
        raise SystemExit("optunahub: pip install optunahub, which loads pruners/multi_metric_pruner") from None
    registry = os.environ.get("OPTUNAHUB_REGISTRY")
    wanted = "pruners/multi_metric_pruner"
    module = hub.load_local_module(wanted, registry_root=registry) if registry else hub.load_module(wanted)
    directions = {"accuracy": "maximize", "parameters": "minimize"}
    pruner = module.MultiMetricPruner(
        optuna.pruners.MedianPruner(n_startup_trials=STARTUP), metric_directions=directions, joint=True
    )
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(directions=list(directions.values()), sampler=sampler, pruner=pruner)
    space, found = cold(), Played()
    while found.epochs < budget:
        trial = study.ask()
        design = space.suggest(trial, SETTING.shape.depth, curves.task.recipe.learning_rate)
        size = design.num_parameters(SETTING.shape, SETTING.num_classes)
        watched = module.MultiMetricPrunerTrial(trial)

        def goes_on(epoch: int, accuracy: float, watched: Any = watched, size: int = size) -> bool:
            watched.report({"accuracy": accuracy, "parameters": size}, epoch)
            return not watched.should_prune()

        end = train(curves, design, size, found, goes_on)
        state = optuna.trial.TrialState.PRUNED if end is None else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if end is None else [end, size], state=state)
    return found


def moasha(curves: Curves, seed: int, budget: int) -> Played:
    """Syne Tune's MOASHA: random designs, asynchronous successive halving by non-dominated sorting."""
    try:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
        from syne_tune.optimizer.scheduler import SchedulerDecision
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
    except ImportError:
        raise SystemExit("moasha: pip install syne-tune, in an environment of its own if need be") from None

    def written(domain: Domain) -> Any:
        if isinstance(domain, Choice):
            return choice([str(v) for v in domain.values])  # it wants values of one type
        if isinstance(domain, IntRange):
            return (lograndint if domain.log else randint)(domain.low, domain.high)
        return (loguniform if domain.log else uniform)(domain.low, domain.high)

    import datetime

    def read(config: dict[str, Any]) -> dict[str, Any]:
        return {n: meant[n].get(v, v) for n, v in config.items()}

    space, found = cold(), Played()
    domains = {v.name: v.domain for v in space.variables(SETTING.shape.depth)}
    variables = {name: written(domain) for name, domain in domains.items()}
    meant = {n: {str(v): v for v in d.values} if isinstance(d, Choice) else {} for n, d in domains.items()}
    np.random.seed(seed)  # noqa: NPY002 - its configurations are drawn from numpy's global stream
    scheduler = MOASHA(
        variables,
        metrics=["error", "parameters"],
        time_attr="epoch",
        max_t=curves.epochs[-1],
        grace_period=1,
        reduction_factor=2,
        random_seed=seed,
    )
    number = 0
    while found.epochs < budget:
        config = scheduler.suggest().config
        rate = curves.task.recipe.learning_rate
        design = space.suggest(Guided(np.random.default_rng(0), read(config)), SETTING.shape.depth, rate)
        size = design.num_parameters(SETTING.shape, SETTING.num_classes)
        trial = Trial(number, config, datetime.datetime.fromtimestamp(0))
        scheduler.on_trial_add(trial)

        def goes_on(epoch: int, accuracy: float, trial: Any = trial, size: int = size) -> bool:
            result = {"error": 1 - accuracy, "parameters": size, "epoch": epoch}
            return bool(scheduler.on_trial_result(trial, result) != SchedulerDecision.STOP)

        train(curves, design, size, found, goes_on)
        number += 1
    return found


def train(
    curves: Curves, design: Design, size: int, found: Played, goes_on: Callable[[int, float], bool]
) -> float | None:
    """Walk a curve as long as a pruner lets it; the final accuracy, or None.

    What is larger than full fine-tuning is not trained, for no search: nothing is gained by it.
    """
    if size > full_fine_tuning(SETTING):
        return None
    found.trials += 1
    before, walk = 0, iter(curves.walk(design))
    for epoch, accuracy in _counted(walk):
        found.epochs, before = found.epochs + epoch - before, epoch
        if epoch == curves.epochs[-1]:
            found.points.append(Point(found.epochs, accuracy, size, str(design)))
            return accuracy
        if epoch in curves.epochs and not goes_on(epoch, accuracy):
            return None
    found.epochs += 1
    return None


def _counted(walk: Iterator[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Epochs until the loss became infinite."""
    for epoch, accuracy in walk:
        if epoch == ENDED:
            return
        yield epoch, accuracy
