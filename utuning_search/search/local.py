"""run.toml: what a study keeps of this machine and of how it was run; it decides no trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utuning_search.common.errors import InputError
from utuning_search.common.toml import read_toml

TEXT, NUMBER, TABLE = (str,), (int, float), (dict,)
# Types of what is read; what another version or a user adds is left alone.
TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("owner", "device", "storage", "data_dir", "called"), TEXT),
    "budget": TABLE,
    "budget.trials": (int,),
    "budget.epochs": (int,),
    "budget.seconds": NUMBER,
    "recommend": TABLE,
    "recommend.seconds": NUMBER,
    "recommend.search_seconds": NUMBER,
}


def read_local(path: Path) -> dict[str, Any]:
    """The settings of a run.toml; none where there is no such file.

    Raises:
        InputError: It is no TOML, or a setting is of another type.
    """
    table = read_toml(path) if path.exists() else {}
    for name, types in TYPES.items():
        above, _, inner = name.rpartition(".")
        value = (table.get(above, {}) if above else table).get(inner)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            rule = f"{name} is {' or '.join('a table' if t is dict else t.__name__ for t in types)}"
            raise InputError(str(path), rule, repr(value), "Mend it, or remove the line.")
        if above == "budget" and isinstance(value, int | float) and not value > 0:
            raise InputError(str(path), f"{name} is above 0", repr(value), "Mend it, or remove the line.")
        if isinstance(value, str) and "\0" in value:
            raise InputError(str(path), f"{name} has no zero byte", repr(value), "Mend it, or remove the line.")
    return table
