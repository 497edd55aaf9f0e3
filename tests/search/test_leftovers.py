"""What killed runs and killed creations leave is in nobody's way, and is removed by the next one."""

from pathlib import Path

import optuna
import pytest

from utuning_search.common.errors import StudyError
from utuning_search.common.files import remove_unfinished, whole_folder, write_atomically
from utuning_search.search.budget import Budget
from utuning_search.search.creation import CREATING, _here
from utuning_search.search.layout import IMAGES
from utuning_search.search.study import Study
from utuning_search.training.task import Task

from .test_kill import SPACE, TASK


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, Task]:
    (tmp_path / "mini.toml").write_text(SPACE)
    (tmp_path / "tiny.toml").write_text(TASK)
    return str(tmp_path / "mini.toml"), Task.load(str(tmp_path / "tiny.toml"))


class Killed(BaseException):
    """In the place of a signal that nothing catches."""


def half_written(folder: Path, name: str) -> None:
    """As `write_atomically` leaves a file if it is killed: it cannot tidy up."""

    def content(path: Path) -> None:
        path.write_text("half")
        raise Killed

    folder.mkdir(exist_ok=True)
    before = set(folder.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            write_atomically(folder / name, content)
    assert len(set(folder.iterdir()) - before) == 1


MINE = (".mine", ".env", ".notes.12345678", ".a.b.csv", "x.01234567.csv", ".x.0123456g.csv", ".lock")


def test_only_what_is_half_written_is_removed(tmp_path: Path) -> None:
    for name in MINE:
        (tmp_path / name).write_text("mine")
    for name in ("front.png", "0001.safetensors", "run.toml", "n" * 250):
        half_written(tmp_path, name)
    (tmp_path / "..images.0123abcd.safetensors").write_text("of an older version")
    (tmp_path / ".trial_3.0123abcd.unfinished").mkdir()
    remove_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(MINE)
    remove_unfinished(tmp_path / "not there")


def test_a_file_is_written_though_a_run_sweeps(tmp_path: Path) -> None:
    """Who only looks may write a picture while a run begins."""
    times = []

    def content(path: Path) -> None:
        path.write_text("whole")
        times.append(path)
        if len(times) == 1:
            remove_unfinished(tmp_path)

    write_atomically(tmp_path / "front.png", content)
    assert [p.name for p in tmp_path.iterdir()] == ["front.png"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_whole_or_not_there(there: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def write() -> None:
        with whole_folder(out, last="b") as folder:
            (folder / "a").write_text("half")
            raise Killed

    with pytest.raises(Killed):
        write()
    assert [p.name for p in tmp_path.rglob("*")] == ["out"] * there


def test_the_next_run_removes_what_a_killed_one_left(files: tuple[str, Task], tmp_path: Path) -> None:
    """Even one that has nothing to do."""
    study = Study.create(*files, name="s", studies_dir=tmp_path / "studies")
    assert study.run(Budget(trials=1), workers=0)
    for name in (IMAGES, "trials.csv"):
        half_written(study.folder, name)
    half_written(study.folder / "weights", "00003.safetensors")
    (study.folder / f"{IMAGES}.safetensors").write_text("decoded by an older version")
    (study.folder / f"{IMAGES}.01234567").mkdir()
    (study.folder / f"{IMAGES}.01234567" / "proxy.npy").write_text("decoded")
    assert study.run(Budget(trials=1), workers=0)
    assert not [p for p in study.folder.rglob(".*") if p.name not in (".lock", ".journal.log.lock")]


# Killed while it was created, with a database


@pytest.mark.parametrize("far", ["at once", "begun", "spec"])
def test_a_creation_that_was_killed_can_be_done_again(far: str, files: tuple[str, Task], tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path}/studies.db", tmp_path / "studies" / "s"
    half = optuna.create_study(study_name="s", storage=url, directions=["maximize", "minimize"])
    if far != "at once":
        half.set_user_attr(CREATING, _here(folder))
    if far == "spec":
        half.set_user_attr("spec", {})
        folder.mkdir(parents=True)
        (folder / "run.toml").write_text("")
    study = Study.create(*files, name="s", studies_dir=tmp_path / "studies", storage=url)
    assert study.run(Budget(trials=1), workers=0)
    assert len(Study.load("s", studies_dir=tmp_path / "studies", storage=url).trials()) == 1


@pytest.mark.parametrize("whose", ["in use", "being created elsewhere", "of an older version", "created"])
def test_the_study_of_another_folder_is_left_alone(whose: str, files: tuple[str, Task], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    there = optuna.create_study(study_name="s", storage=url, directions=["maximize", "minimize"])
    if whose == "in use":
        there.ask()
    elif whose == "being created elsewhere":
        there.set_user_attr(CREATING, "host:/another/folder")
    else:
        there.set_user_attr("spec", {})
        if whose == "created":
            there.set_user_attr(CREATING, "")
    with pytest.raises(StudyError, match=r"a new study has a new name; got s.*where its folder is.*another --name"):
        Study.create(*files, name="s", studies_dir=tmp_path / "studies", storage=url)
    assert optuna.get_all_study_names(url) == ["s"]
