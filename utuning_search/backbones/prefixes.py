"""Names of tensors in a checkpoint: wrappers put a prefix before all of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

INSIDE = ("state_dict", "model_state_dict", "model")  # where training runs keep their weights, beside the epoch
# Of what is wrapped without another name: DataParallel, torch.compile, Lightning, detectors and segmenters.
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")


def without_prefix(stored: Mapping[Any, Any], own: Iterable[str]) -> dict[Any, Any]:
    """A checkpoint's table of tensors, without what wrappers put around it and before its names.

    Where most of the model's own names are found behind one prefix, such as `student.encoder.`, what has another one
    belongs to other modules and is left out.

    Args:
        stored: As it was read; a table of tensors may lie in it under one of the names in INSIDE.
        own: The model's names of its tensors.
    """
    state: Mapping[Any, Any] = stored
    while (name := next((n for n in INSIDE if isinstance(state.get(n), Mapping)), None)) is not None:
        state = state[name]
    while state and (common := next((w for w in WRAPPERS if _all_start(state, w)), None)) is not None:
        state = {key.removeprefix(common): value for key, value in state.items()}
    prefix = _prefix_of(state, set(own))
    return {key.removeprefix(prefix): v for key, v in state.items() if not prefix or str(key).startswith(prefix)}


def _all_start(state: Mapping[Any, Any], prefix: str) -> bool:
    return all(isinstance(key, str) and key.startswith(prefix) for key in state)


def _prefix_of(state: Mapping[Any, Any], own: set[str]) -> str:
    """The one behind which more than half of the model's names are found, if it is the only one; else none."""
    behind: Counter[str] = Counter()
    for key in state:
        parts = str(key).split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in own:
                behind["".join(f"{part}." for part in parts[:i])] += 1
    found = [prefix for prefix, count in behind.items() if 2 * count > len(own)]
    return found[0] if len(found) == 1 else ""
