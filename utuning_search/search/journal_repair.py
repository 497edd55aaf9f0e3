"""Mend a damaged journal: leave out what cannot be read, as long as the rest means what it meant.

Trials are numbered by the order in which lines create them, so a line that is lost may shift all after it. What is left
is therefore followed line by line: each has to be about a trial that is there, and only the process that began a trial
says which design it is, and only once. A trial that lost a line that matters is closed as interrupted, so that its
design is tried again; where the rest does not fit at all, the journal is cut.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utuning_search.common.errors import StudyError
from utuning_search.common.files import write_atomically
from utuning_search.common.locks import locked
from utuning_search.search.journal_lines import Line, Op, parse
from utuning_search.search.storage import journal_locked

# What the process that asked for a trial says of it, each once.
IDENTITY = ("owner", "key", "design", "parameters", "index")
OF_STUDY = ("shape", "classes", "spec")
RUNNING, COMPLETE, PRUNED, FAILED = 0, 1, 2, 3  # states in a journal
SETTLED = (COMPLETE, PRUNED, FAILED)
MOST_MADE = 8  # trials that one unreadable stretch may have made


@dataclass(frozen=True)
class Repaired:
    """What became of a journal.

    Attributes:
        kept: Trials in it.
        lost: Trials that are in it no more, or closed as interrupted, because of a line that could not be read.
        left_out: Lines that could not be read and were left out.
        cut: Bytes that were cut off at the end, because they do not fit without what was before.
        damaged: Where what was left out or cut is kept; None if the journal is sound.
    """

    kept: int
    lost: int
    left_out: int = 0
    cut: int = 0
    damaged: Path | None = None


def repair_journal(path: Path) -> Repaired:
    """Leave out of a journal what cannot be read; it is kept in a file beside it that nothing is written over.

    Raises:
        StudyError: There is no journal, nothing of its study can be kept, or a file cannot be written; then it is as it
            was.
    """
    if not path.exists():
        raise StudyError(f"journal {path}", "it exists", "no such file")
    with locked(path.parent, path.parent.name, "runs"), journal_locked(path):
        try:
            raw = path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise StudyError(f"journal {path}", "it can be read", error.strerror or error) from None
        lines = [parse(line) for line in raw]
        if None not in lines:
            return Repaired(sum(line is not None and line["op_code"] == Op.CREATE_TRIAL for line in lines), 0)
        story = _told(lines)
        if story.missing_of_study():
            todo = "Put the folder back from a copy; the journal was left as it is."
            got = f"nothing of its {', '.join(story.missing_of_study())}"
            raise StudyError(f"journal {path}", "what is readable of it holds its study", got, todo)
        bad = [line for line, read in zip(raw[: story.read], lines, strict=False) if read is None]
        tail = raw[story.read :]
        if bad and story.read == len(raw) and lines[-1] is None:  # it was being written
            tail = [bad.pop()]
        damaged = _unused(path.with_suffix(".damaged"))
        write_atomically(damaged, b"".join([*bad, *tail]))
        write_atomically(path, b"".join(story.written(raw, lines)))
        wounded = story.wounded()
        # Trials are numbered in their order: whoever is spoken of was made.
        after = [line for line in lines[story.read :] if line is not None]
        spoken_of = max((line.get("trial_id", -1) for line in after), default=-1) + 1 - len(story.trials)
        lost = len(wounded) + max(spoken_of, sum(line["op_code"] == Op.CREATE_TRIAL for line in after))
        return Repaired(len(story.trials) - len(wounded), lost, len(bad), sum(map(len, tail)), damaged)


@dataclass
class _Trial:
    """A trial as lines tell it; `worker` is the process that began it."""

    worker: str = ""
    lost: bool = False  # the line that made it
    state: int = RUNNING
    attributes: dict[str, Any] = field(default_factory=dict)


class _Story:
    """What lines tell so far, and whether a further one fits.

    Attributes:
        trials: By id.
        read: Lines taken, those that were left out included.
        placeholders: How many trials stand in the place of a line (by number) that cannot be read.
    """

    def __init__(self) -> None:
        self.trials: list[_Trial] = []
        self.studies: list[set[str]] = []
        self.read = 0
        self.placeholders: dict[int, int] = {}
        self._begun: dict[str, tuple[_Trial, int]] = {}  # the last one of each process, and at which line

    def goes_on(self, line: Line | None, made: int) -> bool:
        """Whether a line fits to what was told before; then it is told.

        Args:
            line: None where it cannot be read.
            made: Trials that it made then.
        """
        if line is None:
            self.placeholders[self.read] = made
            self.trials += [_Trial(lost=True) for _ in range(made)]
        elif not self._fits(line):
            return False
        self.read += 1
        return True

    def _fits(self, line: Line) -> bool:
        op = line["op_code"]
        if op == Op.CREATE_STUDY:
            self.studies.append(set())
            return True
        if "study_id" in line:
            if line["study_id"] >= len(self.studies):
                return False
            if op == Op.SET_STUDY_USER_ATTR:
                self.studies[line["study_id"]] |= line["user_attr"].keys()
            elif op == Op.CREATE_TRIAL:
                state = RUNNING if line.get("state") is None else line["state"]
                self.trials.append(_Trial(state=state, attributes=dict(line.get("user_attrs") or {})))
                return state != RUNNING or self._begins(self.trials[-1], line["worker_id"])
            return True
        if line["trial_id"] >= len(self.trials):
            return False
        return self._tells(self.trials[line["trial_id"]], line)

    def _tells(self, trial: _Trial, line: Line) -> bool:
        if trial.lost or trial.state in SETTLED:  # Optuna itself overlooks what comes after the end
            return True
        if line["op_code"] == Op.SET_TRIAL_STATE_VALUES:
            trial.state = line["state"]
            return trial.state != RUNNING or self._begins(trial, line["worker_id"])
        if line["op_code"] == Op.SET_TRIAL_USER_ATTR:
            (name,) = line["user_attr"]
            if name in IDENTITY and (name in trial.attributes or trial.worker not in ("", line["worker_id"])):
                return False
            trial.attributes |= line["user_attr"]
        return True

    def _begins(self, trial: _Trial, worker: str) -> bool:
        """A process begins a trial; it said of its last one which design that is, if lines mean what they meant."""
        before, since = self._begun.get(worker, (None, 0))
        self._begun[worker], trial.worker = (trial, self.read), worker
        told = before is None or any(name in before.attributes for name in IDENTITY)
        return told or any(number > since for number in self.placeholders)  # it may have been said there

    def missing_of_study(self) -> list[str]:
        """What is not told of the study that was made last."""
        return [name for name in OF_STUDY if not self.studies or name not in self.studies[-1]]

    def wounded(self) -> set[int]:
        """Ids of trials of which something is lost that decides what they mean."""
        ended = [t for t in self.trials if t.state in (COMPLETE, PRUNED) and not t.lost]
        told = Counter(name for trial in ended for name in trial.attributes)
        always = [name for name in IDENTITY if 2 * told[name] > len(ended)]  # older versions told less
        return {i for i, trial in enumerate(self.trials) if trial.lost or _is_wounded(trial, always)}

    def written(self, raw: Sequence[bytes], lines: Sequence[Line | None]) -> Iterator[bytes]:
        """The lines that were taken, with wounded trials closed where they were made."""
        wounded, made = self.wounded(), -1
        for number, line in enumerate(lines[: self.read]):
            if line is None:
                made += self.placeholders[number]
                yield _closed(len(self.studies) - 1) * self.placeholders[number]
            elif line["op_code"] == Op.CREATE_TRIAL:
                made += 1
                yield _closed(line["study_id"]) if made in wounded else raw[number]
            elif line.get("trial_id") not in wounded:
                yield raw[number]


def _told(lines: Sequence[Line | None]) -> _Story:
    """As much of a journal as can be told: without lines that cannot be read, or with trials in the place of one."""
    made: Counter[int] = Counter()  # trials in the place of a line, which may be what is left of several
    while True:
        story = _Story()
        misfit = next((i for i, line in enumerate(lines) if not story.goes_on(line, made[i])), None)
        if misfit is None:
            return story
        last = max((i for i in range(misfit) if lines[i] is None), default=misfit)
        if last == misfit or made[last] == MOST_MADE:
            # Back to that line: what comes after it may mean something else already.
            story = _Story()
            for i, line in enumerate(lines[:last]):
                story.goes_on(line, made[i])
            return story
        made[last] += 1


def _is_wounded(trial: _Trial, always: Sequence[str]) -> bool:
    told = trial.attributes
    if told.get("interrupted"):
        return False
    if trial.state == FAILED:
        return not told.get("reason")
    if trial.state not in (COMPLETE, PRUNED):
        return False
    ends = "reused" in told or "oversized" in told or "epochs" in told
    return not ends or any(name not in told for name in always)


def _closed(study: int) -> bytes:
    """A line that makes a trial which was interrupted before anything is known of it."""
    moment = "2000-01-01T00:00:00.000000"
    line = {"op_code": int(Op.CREATE_TRIAL), "worker_id": "repair", "study_id": study, "state": FAILED}
    line |= {"datetime_start": moment, "datetime_complete": moment}
    line |= {"user_attrs": {"interrupted": True}, "params": {}, "distributions": {}, "system_attrs": {}}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _unused(path: Path) -> Path:
    """The path, or the first of it with a number that no file has."""
    found, number = path, 0
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found
