"""A server that speaks as S3 does, in a process of its own on a port of the system's choice: moto's."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

boto3 = pytest.importorskip("boto3", reason="no boto3 here: pip install 'utuning-search[s3]'")
pytest.importorskip("moto.server", reason="no moto with flask here: pip install 'utuning-search[test]'")

_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.disable()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()  # until whoever started it closes the other end, or is gone
server.stop()
"""
KEYS = {"AWS_ACCESS_KEY_ID": "a-dummy-key-id", "AWS_SECRET_ACCESS_KEY": "a-dummy-secret-key"}
ATTEMPTS = "AWS_MAX_ATTEMPTS"


def server() -> Iterator[str]:
    """The URL of one, for a fixture."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=bare
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "moto's server did not start"
        yield url
        process.stdin.close()


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it, and nothing of the user's own, in the environment: no keys in files, no machine of Amazon's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/-", "AWS_SHARED_CREDENTIALS_FILE": "/-"}
    for name, value in {**nothing, **KEYS, "AWS_ENDPOINT_URL": url, ATTEMPTS: "1"}.items():
        monkeypatch.setenv(name, value)


def client() -> object:
    """boto3's, of the environment."""
    return boto3.client("s3")
