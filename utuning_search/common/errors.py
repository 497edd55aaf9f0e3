"""Errors that a user can act on: where it went wrong, the rule, what was given, what to do."""

import difflib
from collections.abc import Iterable, Mapping


class UTuningError(Exception):
    """Base of every error this package raises on purpose; the CLI prints it as one line and exits with 2.

    Args:
        where: The place in the user's words: a file and key, an option, a tensor.
        rule: What has to hold there.
        got: What was there instead.
        todo: The next thing to do. May be empty where the rule says it all.
    """

    def __init__(self, where: str, rule: str, got: object, todo: str = "") -> None:
        self.where, self.rule, self.got, self.todo = where, rule, str(got), todo
        line = f"{where}: {rule}; got {self.got}."
        super().__init__(f"{line} {todo}".strip())

    def __reduce__(self) -> tuple[type["UTuningError"], tuple[str, str, str, str]]:
        # Errors cross process boundaries (workers); the default would call __init__ with one argument.
        return type(self), (self.where, self.rule, self.got, self.todo)


class InputError(UTuningError, ValueError):
    """A value, name or file that the user gave breaks a rule."""


class DataError(UTuningError):
    """Images or labels that cannot be used."""


class BackboneError(UTuningError):
    """A backbone or a checkpoint that cannot carry tuners."""


class StudyError(UTuningError):
    """A study that does not exist, exists already, differs, or is damaged."""


class TrainingError(UTuningError):
    """A trial that cannot go on, such as a loss that is not finite; the study does go on."""


MOST_LISTED = 60


def nearest(name: object, known: Iterable[str]) -> str:
    """Advice that names the known names, the most similar one first; of hundreds only the similar ones."""
    names = sorted(known)
    similar = difflib.get_close_matches(str(name), names, n=5, cutoff=0.5)
    if len(names) > MOST_LISTED:
        others = f" Similar: {', '.join(similar[1:])}." if similar[1:] else ""
        return f"Did you mean '{similar[0]}'?{others}" if similar else f"{len(names)} are known."
    listed = ", ".join(names) if names else "none"
    return f"Did you mean '{similar[0]}'? Known: {listed}." if similar else f"Known: {listed}."


def refuse_unknown_keys(table: Mapping[str, object], known: Iterable[str], where: str) -> None:
    """Raise InputError for the first key of `table` that is not in `known`."""
    names = set(known)
    for key in table:
        if key not in names:
            raise InputError(where, "only known keys are allowed", f"'{key}'", nearest(key, names))
