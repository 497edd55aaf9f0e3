"""A bucket in S3, or on a server that speaks as S3 does, as one of Optuna's artifact stores.

Optuna's own (5.0) takes a bucket that is not there for a file that is not there; its `Backoff` logs every failed try
with a traceback, and waits for 81 seconds after each removal that went well. What is tried again here, how often and
with which pauses, is botocore's choice.
"""

import io
import os
from typing import BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from optuna.artifacts.exceptions import ArtifactNotFound

TRIES = 10  # of a request; with botocore's pauses about a minute
FEW = 3  # where somebody waits for the answer
CONNECT = 10.0  # seconds
CUT = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)  # which botocore does not try again


class Bucket:
    """Keys and endpoint are those of the environment, and of the files that boto3 reads.

    Args:
        name: Of the bucket.
        hurried: Whether a server that does not answer is soon given up.
    """

    def __init__(self, name: str, *, hurried: bool = False) -> None:
        self._name = name
        self._tries = max(int(os.environ.get("AWS_MAX_ATTEMPTS", FEW if hurried else TRIES)), 1)
        retries = {"mode": "standard", "total_max_attempts": self._tries}
        # A session of its own: boto3's common one keeps the keys that it found first.
        self._client = boto3.Session().client("s3", config=Config(connect_timeout=CONNECT, retries=retries))

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The whole of a file.

        Raises:
            ArtifactNotFound: It is not there.
        """
        for left in reversed(range(self._tries)):
            try:
                found = self._client.get_object(Bucket=self._name, Key=artifact_id)
                return io.BytesIO(found["Body"].read())
            except self._client.exceptions.NoSuchKey:
                raise ArtifactNotFound(artifact_id) from None
            except CUT:
                if not left:
                    raise
        raise AssertionError

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Put a file there, in the place of an earlier one."""
        self._client.put_object(Bucket=self._name, Key=artifact_id, Body=content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove a file, if it is there."""
        self._client.delete_object(Bucket=self._name, Key=artifact_id)
