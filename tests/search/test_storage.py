"""Journal files: what is sound, and who may write."""

from pathlib import Path
from typing import Any

import filelock
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from utuning_search.common.errors import StudyError
from utuning_search.search.storage import JOURNAL, JournalLock, check_journal, open_storage

LINE = b'{"op_code":0,"worker_id":"a","study_name":"s","directions":[1]}'


def taken(journal: Path) -> bool:
    """Whether somebody holds the lock of a journal, as another process finds out."""
    other = filelock.FileLock(journal.with_name(f".{journal.name}.lock"), blocking=False)
    try:
        other.acquire()
    except filelock.Timeout:
        return True
    other.release()
    return False


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    lock = JournalLock(journal)
    assert not taken(journal)
    for _ in range(2):  # its holder may take it again
        assert lock.acquire()
        assert taken(journal)
    lock.release()
    assert taken(journal), "it was given back before its holder was done with it"
    lock.release()
    assert not taken(journal)


def test_whoever_writes_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the look at how long the journal is until the line is whole."""
    journal = tmp_path / JOURNAL
    storage = open_storage(None, tmp_path)
    held: list[bool] = []
    real = JournalFileBackend.append_logs

    def append_logs(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        held.append(taken(journal))
        real(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", append_logs)
    study = optuna.create_study(study_name="s", storage=storage)
    study.set_user_attr("a", 1)
    assert held == [True, True]
    assert not taken(journal)

    def no_room(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        del self, logs
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JournalFileBackend, "append_logs", no_room)
    with pytest.raises(StudyError, match="No space left"):
        study.set_user_attr("b", 2)
    assert not taken(journal), "an error kept the lock"


@pytest.mark.parametrize(
    "end",
    [LINE, LINE[:20], b"{}", b"[]\n", b"7\n", b"null\n", b"\xff\n", b"\x00" * 8, b"\n", LINE + LINE + b"\n"],
    ids=["no newline", "torn", "no newline, empty", "list", "number", "null", "bytes", "zeros", "empty line", "two"],
)
def test_a_line_is_sound_if_it_is_a_table_and_ends(end: bytes, tmp_path: Path) -> None:
    """A whole line without its newline may be the first part of a longer one, and the next one would be glued to it."""
    journal = tmp_path / JOURNAL
    sound = (LINE + b"\n") * 2
    journal.write_bytes(sound)
    check_journal(journal)
    journal.write_bytes(sound + end)
    with pytest.raises(StudyError, match=rf"got {len(end)} unreadable bytes after {len(sound)} good ones"):
        check_journal(journal)
    assert journal.read_bytes() == sound + end, "looking is no repair"
