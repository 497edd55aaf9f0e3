"""Lines of a journal: which are whole and of the form that Optuna writes and reads back."""

import functools
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import IntEnum
from numbers import Real
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution

Line = dict[str, Any]
ABSENT = object()  # stands for the value of a field that a line has not; null is a value


class Op(IntEnum):
    """What a line does; Optuna's own numbers."""

    CREATE_STUDY = 0
    DELETE_STUDY = 1
    SET_STUDY_USER_ATTR = 2
    SET_STUDY_SYSTEM_ATTR = 3
    CREATE_TRIAL = 4
    SET_TRIAL_PARAM = 5
    SET_TRIAL_STATE_VALUES = 6
    SET_TRIAL_INTERMEDIATE_VALUE = 7
    SET_TRIAL_USER_ATTR = 8
    SET_TRIAL_SYSTEM_ATTR = 9


def parse(line: bytes) -> Line | None:
    """A line's content, or None where it is torn, no JSON, or not of Optuna's form."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and is_line(found) else None


def is_line(line: Mapping[str, Any]) -> bool:
    """Whether a line is of the form of what it says it does."""
    op = line.get("op_code", -1)
    if not _whole(op) or op not in FORMS or not isinstance(line.get("worker_id"), str):
        return False
    return all(holds(line.get(name, ABSENT)) for name, holds in FORMS[op].items()) and all(
        map(_is_among, *_settings(line))
    )


def _settings(line: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Distributions of the parameters that a line sets, None where there is none, and their values in the storage."""
    if line["op_code"] == Op.SET_TRIAL_PARAM:
        return [line["distribution"]], [line["param_value_internal"]]
    known, params = line.get("distributions") or {}, line.get("params") or {}
    return [known.get(name) for name in params], list(params.values())


def _is_among(distribution: str | None, value: float) -> bool:
    """Whether a distribution has the value that a storage keeps as a number."""
    found = None if distribution is None else _read_distribution(distribution)
    if found is None:
        return False
    try:
        found.to_external_repr(value)
    except Exception:  # whatever it makes of a number that stands for none of its choices
        return False
    return True


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _directions(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(v in (1, 2) for v in value)


def _one(value: object) -> bool:
    """A table of one entry."""
    return isinstance(value, dict) and len(value) == 1


def _values(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_number, value)))


def _state(value: object) -> bool:
    return _whole(value) and value in range(5)


def _time(value: object) -> bool:
    try:
        datetime.fromisoformat(value)  # type: ignore[arg-type]  # a TypeError answers
    except (TypeError, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _read_distribution(text: str) -> BaseDistribution | None:
    try:
        return json_to_distribution(text)
    except Exception:  # whatever it makes of a text of another form
        return None


def _distribution(value: object) -> bool:
    return isinstance(value, str) and _read_distribution(value) is not None


def _distributions(value: object) -> bool:
    return isinstance(value, dict) and all(map(_distribution, value.values()))


def _steps(value: object) -> bool:
    return isinstance(value, dict) and all(k.lstrip("-").isdecimal() and _number(v) for k, v in value.items())


def _table(value: object) -> bool:
    return isinstance(value, dict)


def _or_none(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or holds(value)


def _or_absent(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    """Optuna has a default for a field that is not there, and takes null for a value."""
    return lambda value: value is ABSENT or holds(value)


FORMS: Mapping[int, Mapping[str, Callable[[object], bool]]] = {
    Op.CREATE_STUDY: {"study_name": _text, "directions": _directions},
    Op.DELETE_STUDY: {"study_id": _whole},
    Op.SET_STUDY_USER_ATTR: {"study_id": _whole, "user_attr": _one},
    Op.SET_STUDY_SYSTEM_ATTR: {"study_id": _whole, "system_attr": _one},
    Op.CREATE_TRIAL: {
        "study_id": _whole,
        "datetime_start": _or_none(_time),
        "datetime_complete": _or_absent(_time),
        "state": _or_absent(_state),
        "values": _or_absent(_values),
        "value": _or_absent(_or_none(_number)),
        "params": _or_absent(_table),
        "distributions": _or_absent(_distributions),
        "user_attrs": _or_absent(_table),
        "system_attrs": _or_absent(_table),
        "intermediate_values": _or_absent(_steps),
    },
    Op.SET_TRIAL_PARAM: {
        "trial_id": _whole,
        "param_name": _text,
        "param_value_internal": _number,
        "distribution": _distribution,
    },
    Op.SET_TRIAL_STATE_VALUES: {"trial_id": _whole, "state": _state, "values": _values},
    Op.SET_TRIAL_INTERMEDIATE_VALUE: {"trial_id": _whole, "step": _whole, "intermediate_value": _number},
    Op.SET_TRIAL_USER_ATTR: {"trial_id": _whole, "user_attr": _one},
    Op.SET_TRIAL_SYSTEM_ATTR: {"trial_id": _whole, "system_attr": _one},
}
