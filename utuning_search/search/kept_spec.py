"""A study keeps its spec: whoever names another one is refused, with the difference shown."""

from collections.abc import Mapping
from typing import Any

from utuning_search.common.errors import StudyError
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pruners.registry import pruner
from utuning_search.search.samplers.registry import sampler
from utuning_search.search.spec import StudySpec

SHOWN = 4  # differences that an error names


def refuse_another(wanted: StudySpec, stored: StudySpec, where: str) -> None:
    """Raise StudyError where a spec is not the stored one."""
    if wanted.digest != stored.digest:
        lines = wanted.differences(stored)
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        todo = "Start a new study for another spec, with another --name."
        raise StudyError(where, "a study keeps its spec", "; ".join(lines[:SHOWN]) + more, todo)


def settings(stored: StudySpec, changed: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a spec from what a caller gives: a sampler or pruner by its name alone leaves its options open."""
    found = dict(changed)
    if isinstance(found.get("sampler"), str):
        found["sampler"] = stored.sampler if found["sampler"] == stored.sampler.kind else sampler(found["sampler"])
    if "pruner" in found and isinstance(found["pruner"], str | None):
        kind = found["pruner"] or "none"
        found["pruner"] = stored.pruner if kind == stored.pruner.kind else pruner(kind)
    if "task" in found:  # what the hub has by now is another question
        found["task"] = found["task"].as_read(stored.task)
    if "objectives" in found:
        found["objectives"] = Objectives(tuple(found["objectives"]))
    if "max_parameters" in found:
        most = found.pop("max_parameters")
        others = [(n, v) for n, v in stored.limits if n != "parameters"]
        found["limits"] = (*others, *([("parameters", most)] if most else []))
    return found
