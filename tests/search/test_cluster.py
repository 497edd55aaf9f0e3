"""Machines that share one study in a PostgreSQL database: real processes, each in a folder of its own."""

import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from utuning_search.common.locks import LOCK, Mark, first
from utuning_search.search.budget import Budget
from utuning_search.search.layout import IMAGES, SPEC, sweep
from utuning_search.search.study import Study

from .hosts import NAME, NEW, QUIET, WORKER, Host, refused

if TYPE_CHECKING:
    from ..postgres import Server

GUARD = 240.0  # seconds; only a hang takes as long
TRIALS = 7


@pytest.fixture
def ended() -> Iterator[list[Any]]:
    """Processes that are killed in the end."""
    found: list[Any] = []
    yield found
    for process in found:
        process.kill()
        process.join(GUARD)


def wait_for(condition: Callable[[], bool], processes: list[Any], *hosts: Host) -> None:
    """Until it holds; at once a failure where one of the processes on these hosts ends with an error."""
    until = time.monotonic() + GUARD
    while not condition():
        assert all(process.exitcode in (None, 0) for process in processes), [host.output for host in hosts]
        assert time.monotonic() < until, [host.output for host in hosts]
        time.sleep(0.05)


def count(postgres: "Server", url: str, state: str) -> int:
    name = url.partition("@/")[2].partition("?")[0]
    with postgres.connect(name) as connection:
        if connection.execute("SELECT to_regclass('trials')").fetchone()[0] is None:
            return 0
        return int(connection.execute("SELECT count(*) FROM trials WHERE state = %s", (state,)).fetchone()[0])


def front(study: Study) -> list[tuple[object, ...]]:
    return [(r.key, r.accuracy, r.parameters) for r in study.front()]


def test_one_of_two_machines_is_killed_and_the_other_ends_the_study(
    postgres: "Server", database: str, hosts: tuple[Host, Host], ended: list[Any]
) -> None:
    """With the front that one machine finds alone, which asks for the same designs; nothing is trained twice."""
    one, two = hosts
    ended.append(one.start(*NEW, *QUIET, f"--trials={TRIALS}"))
    ended.append(two.start(*WORKER, "--wait=2m"))
    joined = two.folder / "studies" / NAME / SPEC
    wait_for(lambda: count(postgres, database, "COMPLETE") >= 2 and joined.exists(), ended, one, two)
    ended[0].kill()
    ended[0].join(GUARD)
    ended[1].join(GUARD)
    assert ended[1].exitcode == 0, two.output
    assert count(postgres, database, "RUNNING") == count(postgres, database, "WAITING") == 0
    alone = Study.create(
        str(two.folder / "mini.toml"),
        str(two.folder / "tiny.toml"),
        name="alone",
        studies_dir=two.folder,
        sampler="random",
        pruner=None,
    )
    study = Study.load(NAME, studies_dir=two.folder / "studies", storage=database)
    settled = [r for r in study.trials() if r.settled]
    assert len(settled) == TRIALS
    trained = [r.key for r in settled if r.reused is None]
    assert len(trained) == len(set(trained))
    assert alone.run(Budget(trials=TRIALS), workers=0)
    assert front(study) == front(alone)


def test_after_sigterm_a_worker_gives_its_trial_back_and_ends_well(
    postgres: "Server", database: str, hosts: tuple[Host, Host], ended: list[Any]
) -> None:
    one, _ = hosts
    assert one.here(*NEW, *QUIET, "--trials=1")[0] == 0
    ended.append(one.start(*WORKER, "--trials=10000"))
    wait_for(
        lambda: count(postgres, database, "COMPLETE") >= 2 and count(postgres, database, "RUNNING") == 1, ended, one
    )
    os.kill(ended[0].pid, signal.SIGTERM)
    ended[0].join(GUARD)
    assert ended[0].exitcode == 0, one.output
    assert "asked to end by sigterm" in one.output.lower()
    assert count(postgres, database, "RUNNING") == 0
    assert not list((one.folder / "studies").rglob("*.unfinished*"))


def test_what_is_known_of_a_study_is_known_everywhere(database: str, hosts: tuple[Host, Host]) -> None:
    """A front and a report need no more than the URL and the name, and the budget is the study's."""
    one, two = hosts
    assert one.here(*NEW, *QUIET, "--trials=3")[0] == 0
    code, out, err = two.here("front", NAME, "--format=csv")
    assert (code, err) == (0, "")
    assert out == one.here("front", NAME, "--format=csv")[1]
    assert two.here("report", NAME)[0] == 0
    assert two.here(*WORKER)[0] == 0
    study = Study.load(NAME, studies_dir=two.folder / "studies", storage=database)
    assert sum(r.settled for r in study.trials()) == 3, "it trained beyond the study's budget"
    assert (two.folder / "studies" / NAME / "splits.json").exists() is False, "its images were not looked at"
    assert two.here(*WORKER, "--trials=4")[0] == 0
    assert (two.folder / "studies" / NAME / "splits.json").read_text() == (
        one.folder / "studies" / NAME / "splits.json"
    ).read_text()
    secret = database.replace("tester@", "tester:s3cr3t@")
    shutil.rmtree(two.folder / "studies")
    assert two.here("front", NAME, "--storage", secret)[0] == 0
    assert not any("s3cr3t" in p.read_text() for p in (two.folder / "studies").rglob("*.toml"))


def test_several_workers_in_one_folder(database: str, hosts: tuple[Host, Host]) -> None:
    """As in a home directory that all machines mount: the first one there is the folder's owner."""
    one, _ = hosts
    assert one.here(*NEW, *QUIET, "--trials=2")[0] == 0
    folder = one.folder / "studies" / NAME
    before = (folder / "run.toml").read_text()
    (folder / ".half.0123abcd.unfinished.toml").write_text("of another worker that is writing it")
    with first(folder) as alone:
        assert alone
        assert one.here(*WORKER, "--trials=3")[0] == 0
        assert (folder / ".half.0123abcd.unfinished.toml").exists()
    study = Study.load(NAME, studies_dir=one.folder / "studies", storage=database)
    assert len({t.user_attrs["owner"] for t in study.optuna.get_trials()}) == 2
    assert (folder / "run.toml").read_text() == before
    assert one.here(*WORKER, "--trials=4")[0] == 0
    assert not (folder / ".half.0123abcd.unfinished.toml").exists()


def test_images_of_the_living_are_not_swept(tmp_path: Path) -> None:
    living, dead, bare = (tmp_path / f"{IMAGES}.{name}" for name in ("a1", "b2", "c3"))
    for folder in (living, dead, bare):
        folder.mkdir()
    mark = Mark(living)
    mark.set()
    for left in ("b2", "d4"):
        (tmp_path / f"{IMAGES}.{left}{LOCK}").touch()
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [living.name, f"{living.name}{LOCK}"]
    mark.remove()
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("database")
def test_other_images_are_refused(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    new = ("run", "--space=mini.toml", "--task=photos.toml", f"--name={NAME}", "--data-dir=.", *QUIET)
    assert one.here(*new, "--trials=1")[0] == 0
    worker = (*WORKER, "--data-dir=.", "--trials=2")
    for path in sorted(two.folder.glob("photos/train/a/*.png")):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    assert "data: its digest is" in refused(two.here(*worker))
    (two.folder / "photos" / "train" / "a").rename(two.folder / "photos" / "train" / "c")
    line = refused(two.here(*worker))
    assert "data: its classes are the study's 2; got without a and with c" in line
    shutil.rmtree(two.folder / "photos")
    assert "photos" in refused(two.here(*worker))
    shutil.copytree(one.folder / "photos", two.folder / "photos")
    assert two.here(*worker)[0] == 0


@pytest.mark.parametrize(
    ("storage", "what"),
    [("", "got none"), ("sqlite:///x.db", "got another"), (None, "it holds the study 'many'; got none")],
)
def test_what_a_worker_cannot_join(
    storage: str | None, what: str, database: str, hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", database if storage is None else storage)
    line = refused(hosts[0].here(*WORKER))
    assert what in line
    assert ("utuning-search run --name many" if storage is None else "postgresql") in line
    assert not (hosts[0].folder / "studies").exists()
    assert "--wait" in refused(hosts[0].here(*WORKER, "--wait=soon")) or storage is not None


def test_a_study_that_is_still_created_is_waited_for(database: str, hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    assert one.here(*NEW, *QUIET, "--trials=1")[0] == 0
    study = Study.load(NAME, studies_dir=one.folder / "studies", storage=database)
    study.optuna.set_user_attr("creating", "there:/studies/many")
    assert "its creation has ended; got one on its way in there:/studies/many" in refused(two.here(*WORKER))
    assert not (two.folder / "studies").exists()
    study.optuna.set_user_attr("creating", "")
    assert two.here(*WORKER, "--wait=1s")[0] == 0
    assert "worker many --studies-dir other --storage URL" in refused(
        two.here(*NEW, "--trials=1", "--studies-dir=other")
    )


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md"


@pytest.mark.usefixtures("database")
def test_the_commands_of_the_page_do_what_it_says(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """As they stand, but for a smaller search, and devices and folders that are here; on two machines in turns."""
    smaller = {
        "--space full --task digits": "--space mini.toml --task tiny.toml --workers 0 -q",
        "--trials 200": "--trials 2",
        "--device cuda:1": "--device cpu",
        " --launcher ray --workers 8": "",
        " --launcher submitit:slurm_partition=gpu,gpus_per_node=1 --workers 8": "",
        "/mnt/studies": f"{tmp_path}/store",
        "/Volumes/studies": f"{tmp_path}/store",
        "confirm kept": "confirm kept --top 1 --seeds 1 --epochs 1 --workers 0 -q",
    }
    text = PAGE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("utuning-search ")]
    assert len(lines) > 7
    for number, line in enumerate(lines):
        words = line.split("  #")[0]
        for long, short in smaller.items():
            words = words.replace(long, short)
        arguments = shlex.split(words)[1:]
        arguments += ["--workers=0", "-q"] if arguments[0] == "worker" else []
        code, out, err = hosts[number % 2].here(*arguments)
        assert code == 0, (line, out, err)


def test_who_joins_as_soon_as_a_study_is_there_knows_when_to_stop(
    database: str, hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment after its creation, before whoever made it goes on."""
    one, two = hosts
    found: list[object] = []
    real = Study.remember

    def remember(self: Study, **settings: Any) -> None:
        joined = Study.load(NAME, studies_dir=two.folder / "studies", storage=database)
        found.append(joined.budget)
        real(self, **settings)

    monkeypatch.setattr(Study, "remember", remember)
    assert one.here(*NEW, *QUIET, "--trials=1")[0] == 0
    assert found[0] == {"trials": 1}
