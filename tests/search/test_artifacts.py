"""Weights and finals of a study that machines share: what one of them trained, the others export."""

import importlib.util
from pathlib import Path

import pytest
from optuna.artifacts import FileSystemArtifactStore

from utuning_search.common.errors import InputError, StudyError
from utuning_search.search.artifacts import Artifacts, place_of_artifacts
from utuning_search.search.study import Study
from utuning_search.testing.pretend import PretendStudy

from .hosts import NAME, NEW, QUIET, Host, refused


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    study = PretendStudy()
    for _ in range(2):
        study.scheduler.ask()
    return Artifacts(str(tmp_path / "store"), study.optuna, study.storage)


def test_files_come_back_as_they_were_sent(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.check(new=True)
    here, there = tmp_path / "here" / "w.bin", tmp_path / "there" / "w.bin"
    here.parent.mkdir()
    for content in (b"first", b"last"):
        here.write_bytes(content)
        artifacts.send(here, 1)
    assert artifacts.fetch(there, 1)
    assert there.read_bytes() == b"last"
    assert not artifacts.fetch(tmp_path / "there" / "other.bin", 1)
    assert not artifacts.fetch(tmp_path / "there" / "w.bin", 0), "it was sent of another trial"
    assert artifacts.names() == set()
    artifacts.send(here)
    assert artifacts.names() == {"w.bin"}


def test_a_file_whose_sender_was_killed_is_not_there(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna keeps the name first. An older file of that name is taken."""
    artifacts.check(new=True)
    here = tmp_path / "w.bin"
    here.write_bytes(b"whole")
    artifacts.send(here, 0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("utuning_search.search.artifacts.shutil.copyfileobj", killed)
    with pytest.raises(KeyboardInterrupt):
        artifacts.send(here, 0)
    monkeypatch.undo()
    assert len(list((tmp_path / "store").iterdir())) == 1, "half a file is left"
    there = tmp_path / "there" / "w.bin"
    assert artifacts.fetch(there, 0)
    assert there.read_bytes() == b"whole"


def test_names_that_lead_out_of_the_folder_are_not_fetched(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.check(new=True)
    (tmp_path / "x.json").write_text("{}")
    artifacts.send(tmp_path / "x.json")
    study = artifacts._study
    for name in ("../y.json", "/y.json", ".hidden.json"):
        attribute = f'{{"artifact_id": "a", "filename": "{name}", "mimetype": "", "encoding": null}}'
        artifacts._storage.set_study_system_attr(study._study_id, f"artifacts:{name}", attribute)
    assert artifacts.names() == {"x.json"}


def test_a_store_that_cannot_be_used_is_one_line(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    with pytest.raises(StudyError, match=r"--artifacts .*store: it can be created and written"):
        artifacts.check(new=True)
    here = tmp_path / "w.bin"
    here.write_bytes(b"w")
    with pytest.raises(StudyError):
        artifacts.send(here, 0)


def test_a_folder_that_is_not_mounted_is_not_created(artifacts: Artifacts, tmp_path: Path) -> None:
    """Or what is trained here would lie where nobody else finds it."""
    with pytest.raises(StudyError, match=r"--artifacts .*store: .*no such folder"):
        artifacts.check()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ["s3://", "s3://bucket/part"])
def test_a_store_in_s3_is_a_bucket(text: str) -> None:
    with pytest.raises(InputError, match="--artifacts"):
        place_of_artifacts(text)


@pytest.mark.parametrize("text", ["\ud800\u2028inf", "a\x00b"])
def test_a_store_has_a_name_that_files_can_have(text: str) -> None:
    with pytest.raises(InputError, match=r"^--artifacts: it is the path of a folder, or s3://BUCKET; got '") as caught:
        place_of_artifacts(text)
    assert str(caught.value).isprintable()


def test_places_of_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of_artifacts("s3://bucket/") == "s3://bucket"
    assert place_of_artifacts("there") == str(tmp_path / "there")
    if importlib.util.find_spec("boto3") is None:
        study = PretendStudy()
        with pytest.raises(InputError, match=r"utuning-search\[s3\]"):
            Artifacts("s3://bucket", study.optuna, study.storage).check()


def test_a_journal_has_no_store(tmp_path: Path, hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    line = refused(hosts[0].here(*NEW, "--trials=1", f"--artifacts={tmp_path}/store"))
    assert "--artifacts: it goes with a study in a PostgreSQL database" in line
    assert not (hosts[0].folder / "studies").exists()


def test_what_one_machine_trained_another_exports(
    database: str,
    hosts: tuple[Host, Host],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights of trials, and after a confirmation its finals; where the store is mounted elsewhere, too."""
    one, two = hosts
    assert one.here(*NEW, *QUIET, "--trials=2", f"--artifacts={tmp_path}/store")[0] == 0
    code, _, err = two.here("export", NAME)
    assert (code, err) == (0, "")
    exported = next((two.folder / "studies" / NAME / "exports").glob("*/tuner.safetensors"))
    trial = int(exported.parent.name.removeprefix("trial_"))
    study = Study.load(NAME, studies_dir=one.folder / "studies", storage=database)
    assert one.here("export", NAME, f"--pick=trial={trial}")[0] == 0
    mine = one.folder / "studies" / NAME / "exports" / exported.parent.name / exported.name
    assert mine.read_bytes() == exported.read_bytes()
    assert study.weights_file(trial).exists()
    (tmp_path / "store").rename(tmp_path / "mounted")
    monkeypatch.setenv("UTUNING_ARTIFACTS", str(tmp_path / "mounted"))
    confirm = ("confirm", NAME, "--top=1", "--seeds=1", "--epochs=1", "--workers=0", "-q")
    assert two.here(*confirm)[0] == 0
    finals = two.folder / "studies" / NAME / "finals"
    assert one.here("finals", NAME)[0] == 0
    kept = {p.name: p.read_bytes() for p in finals.iterdir() if p.suffix in (".json", ".npy", ".safetensors")}
    here = one.folder / "studies" / NAME / "finals"
    assert {name: (here / name).read_bytes() for name in kept} == kept
    sent = len(list((tmp_path / "mounted").iterdir()))
    monkeypatch.setattr("utuning_search.results.spread.run_each", lambda *_: iter(()))  # nothing is left to train
    assert one.here(*confirm)[0] == 0
    assert len(list((tmp_path / "mounted").iterdir())) == sent, "files were sent again"
    assert isinstance(study.artifacts and study.artifacts._opened(), FileSystemArtifactStore)


@pytest.mark.usefixtures("database")
def test_without_a_store_weights_are_with_who_trained_them(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    assert one.here(*NEW, *QUIET, "--trials=1")[0] == 0
    code, _, err = two.here("export", NAME)
    assert code == 2
    assert "created without --artifacts" in err
    assert len(err.splitlines()) == 1
