"""Finals of a study that machines share: what one of them trained is sent once, whole, and fetched by the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from utuning_search.results.outcomes import FINALS
from utuning_search.results.shared_finals import KINDS, fetch_finals, send_finals
from utuning_search.search.artifacts import Artifacts
from utuning_search.testing.pretend import PretendStudy

NAMES = ("a_seed0.json", "a_seed0.npy", "a_seed0.safetensors", "b_seed0.json")


@dataclass
class Machine:
    """A study's folder there, and the store that all have."""

    folder: Path
    artifacts: Artifacts | None

    @property
    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted((self.folder / FINALS).glob("*"))}


@pytest.fixture
def one(tmp_path: Path) -> Any:
    study = PretendStudy()
    store = Artifacts(str(tmp_path / "store"), study.optuna, study.storage)
    store.check(new=True)
    finals = tmp_path / "one" / FINALS
    finals.mkdir(parents=True)
    for name in (*NAMES, ".a.json", "notes.txt"):
        (finals / name).write_text(name)
    return Machine(finals.parent, store)


def test_what_one_machine_has_the_others_get(one: Any, tmp_path: Path) -> None:
    two: Any = Machine(tmp_path / "two", one.artifacts)
    send_finals(one)
    fetch_finals(two)
    assert two.files == {name: name for name in NAMES}, "what is hidden or none of its files is not sent"
    (two.folder / FINALS / NAMES[0]).write_text("its own")
    fetch_finals(two)
    assert two.files[NAMES[0]] == "its own"


def test_an_outcome_is_sent_and_fetched_after_what_belongs_to_it(
    one: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed between two files leaves no outcome without its weights. Nothing goes twice."""
    seen: list[str] = []
    for name in ("send", "fetch"):
        real = getattr(Artifacts, name)

        def watched(store: Artifacts, path: Path, real: Any = real) -> object:
            seen.append(path.suffix)
            return real(store, path)

        monkeypatch.setattr(Artifacts, name, watched)
    two: Any = Machine(tmp_path / "two", one.artifacts)
    for act, machine in ((send_finals, one), (fetch_finals, two)):
        act(machine)
        assert seen == [".safetensors", ".npy", ".json", ".json"] == sorted(seen, key=KINDS.index)
        act(machine)
        assert len(seen) == len(NAMES)
        seen.clear()


def test_a_study_of_one_machine_has_no_store(tmp_path: Path) -> None:
    alone: Any = Machine(tmp_path / "alone", None)
    send_finals(alone)
    fetch_finals(alone)
    assert not alone.folder.exists()
