"""A damaged journal: what is left of it means what it meant, whichever line was hit, and what was lost is counted."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal._storage import JournalOperation

from utuning_search.common.errors import StudyError, UTuningError
from utuning_search.search.budget import Budget
from utuning_search.search.journal_lines import Op, is_line, parse
from utuning_search.search.journal_repair import Repaired, repair_journal
from utuning_search.search.storage import JOURNAL, check_journal
from utuning_search.search.study import Study

from .test_kill import SPACE, TASK

TRIALS = 5
FIRST_OF_A_TRIAL = 10  # lines that make the study come before


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with reused, pruned and complete trials, which was stopped once and goes on."""
    root = tmp_path_factory.mktemp("journals")
    for name, text in (("mini.toml", SPACE), ("tiny.toml", TASK.replace("= 100", "= 20").replace("= 60", "= 20"))):
        (root / name).write_text(text)
    files = (str(root / "mini.toml"), str(root / "tiny.toml"))
    study = Study.create(*files, name="s", studies_dir=root / "studies", sampler="random", pruner="pareto")
    assert study.run(Budget(trials=3), workers=0)
    study.scheduler.ask()  # and it dies
    study = Study.load("s", studies_dir=root / "studies")
    assert study.run(Budget(trials=TRIALS), workers=0)
    return study


@pytest.fixture
def copied(made: Study, tmp_path: Path) -> Path:
    """The journal of a copy of that study."""
    return Path(shutil.copytree(made.folder, tmp_path / "studies" / "s")) / JOURNAL


def lines_of(made: Study) -> list[bytes]:
    return (made.folder / JOURNAL).read_bytes().splitlines(keepends=True)


def repaired(journal: Path, lines: list[bytes]) -> tuple[Repaired, Study]:
    for old in journal.parent.glob("journal.damaged*"):
        old.unlink()
    journal.write_bytes(b"".join(lines))
    found = repair_journal(journal)
    check_journal(journal)
    return found, Study.load("s", studies_dir=journal.parent.parent)


def check_meaning(before: Study, after: Study, found: Repaired) -> None:
    """Each trial is what it was, or interrupted, or unfinished; no more of them are than were counted as lost."""
    was, now = before.trials(), after.trials()
    assert len(now) <= len(was)
    for old, new in zip(was, now, strict=False):
        if new.state not in ("interrupted", "running"):
            assert (new.key, new.design, new.state, new.preset) == (old.key, old.design, old.state, old.preset)
            assert (new.values, new.parameters, new.reused) == (old.values, old.parameters, old.reused)
    gone = [o for o in was if o.settled and (o.number >= len(now) or now[o.number].state == "interrupted")]
    assert len(gone) <= found.lost
    assert found.kept <= len(now)
    assert found.kept + found.lost <= len(was)


def test_whichever_line_is_hit_the_others_mean_what_they_meant(made: Study, copied: Path) -> None:
    lines = lines_of(made)
    for i in range(FIRST_OF_A_TRIAL, len(lines)):
        damage = (lines[i][: len(lines[i]) // 2] + b"\n", b"\0\0\0\n", b'{"hello": 1}\n')[i % 3]
        found, after = repaired(copied, [*lines[:i], damage, *lines[i + 1 :]])
        check_meaning(made, after, found)
        assert found.lost <= 1, f"line {i}: {lines[i]!r}"
        assert found.damaged is not None
        assert found.damaged.read_bytes() == damage
        last = i == len(lines) - 1
        assert (found.left_out, found.cut) == ((0, len(damage)) if last else (1, 0))


@pytest.mark.parametrize("length", [2, 9, 40])
def test_a_stretch_of_lines_is_hit(length: int, made: Study, copied: Path) -> None:
    """As a lost block of a disk leaves it: one line of nothing, in which trials were made."""
    lines = lines_of(made)
    for i in range(FIRST_OF_A_TRIAL, len(lines) - length, 7):
        found, after = repaired(copied, [*lines[:i], b"\0" * 500 + b"\n", *lines[i + length :]])
        check_meaning(made, after, found)
        hit = {line["trial_id"] for line in map(json.loads, lines[i : i + length]) if "trial_id" in line}
        created = sum(json.loads(line)["op_code"] == Op.CREATE_TRIAL for line in lines[i : i + length])
        assert found.lost <= len(hit) + created, f"lines {i} to {i + length}"


def test_two_lines_are_hit(made: Study, copied: Path) -> None:
    lines = lines_of(made)
    for i in range(FIRST_OF_A_TRIAL, len(lines) - 20, 5):
        damaged = [b"{\n" if n in (i, i + 17) else line for n, line in enumerate(lines)]
        found, after = repaired(copied, damaged)
        check_meaning(made, after, found)
        assert found.lost <= 2
        assert found.left_out == 2


def test_a_repaired_study_goes_on(made: Study, copied: Path) -> None:
    """What was lost is tried again, and ends as it did."""
    lines = lines_of(made)
    hit = max(i for i, line in enumerate(lines) if b'"design"' in line)
    found, after = repaired(copied, [*lines[:hit], b"\xff\n", *lines[hit + 1 :], b"torn"])
    assert (found.left_out, found.cut) == (1, 4)
    assert found.lost == 1
    assert after.run(Budget(trials=TRIALS), workers=0)
    settled = {r.key: r.values for r in after.trials() if r.settled}
    assert settled == {r.key: r.values for r in made.trials() if r.settled}


@pytest.mark.parametrize("which", [0, 3])
def test_a_journal_without_its_study_is_left_as_it_is(which: int, made: Study, copied: Path) -> None:
    lines = lines_of(made)
    at = which if which == 0 else next(i for i, line in enumerate(lines) if b'"spec"' in line)
    copied.write_bytes(b"".join([*lines[:at], b"{\n", *lines[at + 1 :]]))
    before = copied.read_bytes()
    with pytest.raises(StudyError, match=r"holds its study; got nothing of its .*spec"):
        repair_journal(copied)
    assert copied.read_bytes() == before
    assert not list(copied.parent.glob("journal.damaged*"))


def test_what_was_left_out_before_is_kept(copied: Path) -> None:
    whole = copied.read_bytes()
    for i, name in enumerate(("journal.damaged", "journal.damaged.1", "journal.damaged.2")):
        copied.write_bytes(whole + b"torn %d" % i)
        assert repair_journal(copied).damaged == copied.with_name(name)
    for i, name in enumerate(("journal.damaged", "journal.damaged.1", "journal.damaged.2")):
        assert copied.with_name(name).read_bytes() == b"torn %d" % i
    assert copied.read_bytes() == whole


@pytest.mark.parametrize("writes", [0, 1])
def test_a_full_disk_leaves_the_journal_as_it_is(writes: int, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied.write_bytes(copied.read_bytes() + b"torn")
    before, left = copied.read_bytes(), [writes]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} {descriptor > 0}")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StudyError, match="No space left"):
        repair_journal(copied)
    assert copied.read_bytes() == before
    assert not list(copied.parent.glob(".*unfinished*"))


# What a journal's lines may hold


def test_numbers_of_operations_are_optunas() -> None:
    assert all(JournalOperation[op.name] == op for op in Op)


def test_every_line_that_optuna_writes_is_one(made: Study) -> None:
    assert all(parse(line) is not None for line in lines_of(made))


def forms(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line with each of its fields of another type, or gone."""
    for name, value in line.items():
        if value is not None and name not in ("datetime_complete", "user_attrs", "system_attrs"):
            yield {k: v for k, v in line.items() if k != name}
        for other in ([], "x", -1.5, True, None, {"a": 1, "b": 2}):
            if type(other) is not type(value) or name == "op_code":
                yield {**line, name: other}


def test_lines_of_other_types_are_refused(made: Study, copied: Path) -> None:
    """In one line, and never a traceback: as they are read, or as what they say is used."""
    lines = lines_of(made)
    kinds = {json.loads(line)["op_code"]: i for i, line in enumerate(lines)}
    tried = 0
    for i in kinds.values():
        for changed in forms(json.loads(lines[i])):
            text = json.dumps(changed).encode() + b"\n"
            copied.write_bytes(b"".join([*lines[:i], text, *lines[i + 1 :]]))
            tried += 1
            told = look(copied)
            assert is_line(changed) or "every line is whole" in told, text
    assert tried > 100


@pytest.mark.parametrize(
    "field", ["user_attrs", "system_attrs", "params", "distributions", "intermediate_values", "state"]
)
def test_null_is_no_table_of_the_last_trial_either(field: str, made: Study, copied: Path) -> None:
    """Seen: of the attributes of one that has no line of its own yet, it was a traceback."""
    lines = lines_of(made)
    last = max(i for i, line in enumerate(lines) if json.loads(line)["op_code"] == Op.CREATE_TRIAL)
    text = json.dumps({**json.loads(lines[last]), field: None}).encode() + b"\n"
    copied.write_bytes(b"".join([*lines[:last], text]))
    assert "every line is whole" in look(copied)


def look(journal: Path) -> str:
    """What opening a study says, if it is refused."""
    told = ""
    try:
        study = Study.load("s", studies_dir=journal.parent.parent)
        study.front()
        [r.to_dict() for r in study.trials()]
    except UTuningError as error:
        told = str(error)
    assert "\n" not in told
    return told


NUMBERS = ("parameters", "index", "seconds", "epochs", "reused", "rung:1", "rung:3")
STRANGE: dict[str, Callable[[str], object]] = {
    "number": lambda name: "five" if name in NUMBERS else 5,
    "list": lambda name: [[name]],
    "null": lambda name: None if name not in ("reused", "reason", "preset") else {"a": None},
    "deep": lambda name: {"a": {"b": [name]}},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_attributes_of_other_types_are_refused(kind: str, made: Study, copied: Path) -> None:
    """Those of the study, and of a trial; each by its name."""
    lines = lines_of(made)
    seen: set[str] = set()
    for i, line in enumerate(lines):
        said = json.loads(line)
        where = next((field for field in ("user_attr", "user_attrs") if said.get(field)), None)
        for name in set(said[where] if where else ()) - seen - {"digest", "owner"}:
            seen.add(name)
            changed = {**said, where: {**said[where], name: STRANGE[kind](name)}}
            copied.write_bytes(b"".join([*lines[:i], json.dumps(changed).encode() + b"\n", *lines[i + 1 :]]))
            assert look(copied), f"{name} as {changed[where][name]}"
    assert {"shape", "classes", "spec", "key", "design", "parameters", "index", "rung:1", "epochs"} <= seen


CHOICE = json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": ["a", "b"]}})


@pytest.mark.parametrize("number", [2, 99, 1e300, float("inf"), float("nan"), 10**400])
def test_a_number_of_no_choice_is_no_line(number: float) -> None:
    """Optuna reads it with an IndexError, or worse; repair would call such a journal sound."""
    line = {"op_code": 5, "worker_id": "w", "trial_id": 0, "param_name": "x", "distribution": CHOICE}
    made = {"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": None, "distributions": {"x": CHOICE}}
    assert is_line({**line, "param_value_internal": 1})
    assert not is_line({**line, "param_value_internal": number})
    assert is_line({**made, "params": {"x": 1}})
    assert not is_line({**made, "params": {"x": number}})
    assert not is_line({**made, "params": {"y": 1}})


@pytest.mark.parametrize("where", ["user_attrs", "values"])
def test_numbers_beyond_floats_are_refused(where: str, made: Study, copied: Path) -> None:
    lines = [json.loads(line) for line in lines_of(made)]
    line = next(n for n in lines if n.get(where))
    line[where] = {**line[where], "parameters": 10**400} if where == "user_attrs" else [10**400, 1.0]
    copied.write_text("".join(json.dumps(n) + "\n" for n in lines))
    assert "its attributes are as utuning-search writes them; got OverflowError" in look(copied)
