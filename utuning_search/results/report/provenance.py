"""Where a study comes from: the command that makes it again, what it cost, with which versions it is read."""

import platform
import shlex
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

from utuning_search.common.counts import counted, short
from utuning_search.common.errors import UTuningError
from utuning_search.designs.spaces.space import Space
from utuning_search.search.defaults import OBJECTIVES, PRUNER, SAMPLER
from utuning_search.search.study import Study
from utuning_search.search.trials import OVERSIZED, TrialRecord
from utuning_search.training.task import Task

PACKAGES = ("utuning-search", "torch", "timm", "optuna", "numpy")


def command_of(study: Study) -> tuple[str, str]:
    """The command that makes a study with this spec, and what it cannot say; empty where it says it all.

    It is read from the spec and the budget that was kept, so studies of older versions have one too, and no password is
    in it. Spaces and tasks that are not the bundled ones of their names have to be given as files.
    """
    spec, local = study.spec, study.local
    space, task, missing = spec.space.name, spec.task.name, list[str]()
    if not _is_bundled_space(spec.space):
        space, missing = f"{space}.toml", [*missing, "its [space]"]
    options, same = _task_options(spec.task)
    if not same:
        task, missing = f"{task}.toml", [*missing, "its [task]"]
    words = ["utuning-search", "run", "--space", space, "--task", task, *options, "--name", study.name]
    words += ["--seed", str(spec.seed)] if spec.seed else []
    words += ["--sampler", spec.sampler.kind] if spec.sampler.kind != SAMPLER else []
    words += ["--pruner", spec.pruner.kind] if spec.pruner.kind != PRUNER else []
    words += ["--objectives", ",".join(spec.objectives.names)] if spec.objectives.names != OBJECTIVES else []
    for name, limit in spec.limits:
        words += ["--max-params", f"{limit:.0f}"] if name == "parameters" else ["--limit", f"{name}={limit:.0f}"]
    for preset in spec.presets:
        words += ["--preset", preset]
    words += ["--precision", spec.precision]
    budget = local.get("budget", {})
    words += ["--trials", str(budget["trials"])] if budget.get("trials") else []
    words += ["--epochs", str(budget["epochs"])] if budget.get("epochs") else []
    words += ["--time", f"{budget['seconds']:g}s"] if budget.get("seconds") else []
    verb = "is" if len(missing) == 1 else "are"
    said = f"{' and '.join(missing).capitalize()} {verb} not bundled: see spec.toml, below." if missing else ""
    return shlex.join(words), said


def cost_of(records: Sequence[TrialRecord]) -> str:
    """Trials by state, epochs, and the time that trainings took."""
    states = Counter(r.state for r in records if r.settled and r.reused is None)
    reused = sum(r.reused is not None for r in records)
    parts = [f"{n} {state}" for state, n in sorted(states.items())] + ([f"{reused} reused"] if reused else [])
    oversized = sum(r.state == OVERSIZED for r in records)
    more = f"; {counted(oversized, 'proposal')} larger than allowed" if oversized else ""
    seconds = sum(r.seconds for r in records if r.settled and r.reused is None)
    trials = counted(sum(states.values()) + reused, "trial")
    return f"{trials} ({', '.join(parts)}), {counted(sum(r.epochs for r in records), 'epoch')}, {clock(seconds)}{more}"


def facts(study: Study, records: Sequence[TrialRecord], images: int) -> list[tuple[str, str]]:
    """What a reader has to know of a study, a name and a value each."""
    spec = study.spec
    trained = f"{data.shots} a class" if (data := spec.task.data).shots else f"{data.proxy:,}"
    limits = ", ".join(f"{name} at most {short(value)}" for name, value in spec.limits)
    return [
        ("Space and task", f"{spec.space.name} on {spec.task.name}"),
        ("Backbone", f"{spec.task.backbone.name}, {short(study.reference)} parameters with the head"),
        ("Objectives", ", ".join(spec.objectives.names) + (f"; {limits}" if limits else "")),
        ("Images", f"{trained} trained on, {images:,} compared on, {len(study.classes):,} classes"),
        ("Sampler, pruner, seed", f"{spec.sampler.kind}, {spec.pruner.kind}, {spec.seed}"),
        ("Cost", cost_of(records)),
        ("Hypervolume", f"{study.hypervolume():.4f}"),
        ("Spec, data", f"{spec.digest}, {spec.data}"),
        ("Read with", ", ".join([f"python {platform.python_version()}", *(f"{n} {version(n)}" for n in PACKAGES)])),
    ]


def clock(seconds: float) -> str:
    """Hours and minutes of training, or seconds where it is less than two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} seconds of training"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min of training" if hours else f"{minutes} min of training"


def _is_bundled_space(space: Space) -> bool:
    try:
        return Space.load(space.name) == space
    except UTuningError:
        return False


def _task_options(task: Task) -> tuple[list[str], bool]:
    """Options that make the bundled task of its name this one, and whether they do."""
    try:
        bundled = Task.load(task.name)
    except UTuningError:
        return [], False
    options, own, data = list[str](), task.backbone, task.data
    if data.shots and data.shots != bundled.data.shots:
        bundled, options = bundled.with_shots(data.shots), ["--shots", str(data.shots)]
    if data.ood != bundled.data.ood:
        bundled, options = bundled.with_ood(data.ood), [*options, "--ood", data.ood]
    if bundled == task:
        return options, True
    options += ["--backbone", own.exact]
    options += ["--checkpoint", own.checkpoint] if own.checkpoint else []
    options += ["--image-size", str(own.image_size)]
    try:
        same = bundled.with_backbone(own.name, own.checkpoint or None, own.image_size).as_read(task) == task
    except UTuningError:
        same = False
    return (options, True) if same else ([], False)
