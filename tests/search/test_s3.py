"""A study whose files lie in a bucket: workers send them, and a machine that trained nothing exports and confirms."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from utuning_search.common.errors import StudyError
from utuning_search.search.artifacts import Artifacts
from utuning_search.search.checkpoints import Checkpoints
from utuning_search.search.study import Study
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.checkpoint import Checkpoint

from .hosts import NAME, NEW, QUIET, WORKER, Host, refused

BUCKET, GUARD = "studies", 240.0  # seconds; only a hang takes as long
CONFIRM = ("confirm", NAME, "--top=1", "--seeds=1", "--epochs=1", *QUIET)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from ..s3 import server  # its libraries may not be there

    yield from server()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty one, and what looks into it."""
    from ..s3 import client, use

    use(server, monkeypatch)
    found: Any = client()
    found.create_bucket(Bucket=BUCKET)
    yield found
    for name in names(found):
        found.delete_object(Bucket=BUCKET, Key=name)
    found.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def artifacts() -> Artifacts:
    study = PretendStudy()
    study.scheduler.ask()
    return Artifacts(f"s3://{BUCKET}", study.optuna, study.storage)


def names(client: Any) -> set[str]:
    return {found["Key"] for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", ())}


def test_two_workers_send_what_a_third_machine_exports_and_confirms(
    database: str, hosts: tuple[Host, Host], bucket: Any, tmp_path: Path
) -> None:
    one, two = hosts
    third = Host(tmp_path / "third")
    trials = 4
    workers = [one.start(*NEW, *QUIET, f"--trials={trials}", f"--artifacts=s3://{BUCKET}/")]
    workers.append(two.start(*WORKER, "--wait=2m"))
    for process, host in zip(workers, hosts, strict=True):
        process.join(GUARD)
        assert process.exitcode == 0, host.output
    study = Study.load(NAME, studies_dir=one.folder / "studies", storage=database)
    trained = [r.number for r in study.trials() if r.state == "complete" and r.reused is None]
    assert third.here("front", NAME, "--format=csv")[1] == one.here("front", NAME, "--format=csv")[1] != ""
    for number in trained:  # whoever trained them
        code, _, err = third.here("export", NAME, f"--pick=trial={number}")
        assert (code, err) == (0, "")
    assert not list((third.folder / "studies").rglob("*.unfinished*"))
    assert len(names(bucket)) == len(trained), "what proved that files can be put there is left"
    assert third.here(*CONFIRM)[0] == 0
    finals = third.folder / "studies" / NAME / "finals"
    assert one.here("finals", NAME)[0] == 0
    sent = [p.name for p in finals.iterdir() if p.suffix in (".json", ".npy", ".safetensors")]
    assert len(sent) > 2
    here = one.folder / "studies" / NAME / "finals"
    assert {name: (here / name).read_bytes() for name in sent} == {n: (finals / n).read_bytes() for n in sent}


@pytest.mark.usefixtures("bucket")
def test_a_checkpoint_is_found_elsewhere_and_removed_at_once(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's own way of trying again waits after a removal that went well."""
    one, two = (Checkpoints(tmp_path / name, "many", artifacts) for name in ("one", "two"))
    kept = Checkpoint(1, 1.0, {}, b"not looked into here")
    one.keep("key", kept)
    assert artifacts.get("many.key.safetensors") == kept.content
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"{seconds} s are waited for"))
    two.remove("key")
    assert artifacts.get("many.key.safetensors") is None
    two.remove("key")


def test_a_file_that_is_not_there_is_none_and_a_bucket_that_is_not_is_an_error(
    artifacts: Artifacts, bucket: Any, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(b"w")
    artifacts.send(tmp_path / "w.bin", 0)
    there = tmp_path / "there" / "w.bin"
    assert artifacts.fetch(there, 0)
    assert there.read_bytes() == b"w"
    for name in names(bucket):  # as if whoever sent it was killed before it was there
        bucket.delete_object(Bucket=BUCKET, Key=name)
    assert not artifacts.fetch(there, 0)
    elsewhere = Artifacts("s3://nowhere", artifacts._study, artifacts._storage)
    with pytest.raises(StudyError, match=r"--artifacts s3://nowhere: .*NoSuchBucket"):
        elsewhere.fetch(there, 0)


def test_a_connection_that_is_cut_in_the_middle_of_a_file(
    artifacts: Artifacts, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore does not ask again for what it has begun to hand over."""
    from botocore.exceptions import ResponseStreamingError
    from botocore.response import StreamingBody

    bucket.put_object(Bucket=BUCKET, Key="x", Body=b"whole")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    real, cuts = StreamingBody.read, [1, 2]

    def read(self: StreamingBody, *arguments: Any, **named: Any) -> bytes:
        if cuts:
            cuts.pop()
            raise ResponseStreamingError(error="cut")
        return bytes(real(self, *arguments, **named))

    monkeypatch.setattr(StreamingBody, "read", read)
    with pytest.raises(StudyError, match="ResponseStreamingError"):
        artifacts.get("x")
    cuts[:] = [1]
    assert artifacts.get("x") == b"whole"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


TROUBLE = {
    "another bucket": ("s3://nowhere", {}, "NoSuchBucket"),
    "no server": (f"s3://{BUCKET}", {"AWS_ENDPOINT_URL": "http://me:s3cr3t@127.0.0.1:PORT"}, "EndpointConnectionError"),
    "no keys": (
        f"s3://{BUCKET}",
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        "NoCredentialsError: Unable to locate credentials",
    ),
}


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("what", TROUBLE)
def test_a_bucket_that_cannot_be_used_is_one_line_before_any_training(
    what: str, database: str, hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ..s3 import KEYS

    one, two = hosts
    place, changed, said = TROUBLE[what]
    new = (*NEW, *QUIET, "--trials=1")
    assert one.here(*new, f"--artifacts=s3://{BUCKET}")[0] == 0
    for name, value in changed.items():
        monkeypatch.setenv(name, value.replace("PORT", str(free_port()))) if value else monkeypatch.delenv(name)
    monkeypatch.setenv("UTUNING_ARTIFACTS", place)
    lines = [refused(two.here(*WORKER, "--trials=2")), refused(two.here("export", NAME)), refused(two.here(*CONFIRM))]
    another = [w.replace(f"--name={NAME}", "--name=other") for w in new]
    lines.append(refused(one.here(*another, f"--artifacts={place}")))
    for line in lines:
        assert f"--artifacts {place}: " in line
        assert said in line
        assert not any(secret in line for secret in (*KEYS.values(), "s3cr3t"))
    study = Study.load(NAME, studies_dir=one.folder / "studies", storage=database)
    assert len(study.trials()) == 1, "something was trained for nothing"
    assert not (one.folder / "studies" / "other" / "spec.toml").exists()
    with pytest.raises(StudyError):
        Study.load("other", studies_dir=two.folder / "studies", storage=database)
