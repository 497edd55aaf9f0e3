"""Files of a study for all its machines: weights of trials and what finals left, in one of Optuna's artifact stores.

Not in the storage itself: whoever runs a study reads all attributes of its trials, again and again, and tuners of a few
hundred kB each would be most of that. The storage holds the name and the place of each file only.
"""

import io
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.artifacts import (
    ArtifactMeta,
    FileSystemArtifactStore,
    download_artifact,
    get_all_artifact_meta,
    upload_artifact,
)
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from utuning_search.common.errors import InputError, StudyError, UTuningError
from utuning_search.common.extras import needs
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.lazy import load
from utuning_search.common.wording import printable
from utuning_search.search.masking import mask

BUCKET = "s3://"  # begins the place of a store that is no folder
OPTION = "--artifacts"


class _Folder(FileSystemArtifactStore):
    """A folder whose files are either whole or not there; Optuna's own shows them while they are written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        def put(path: Path) -> None:
            with path.open("wb") as file:
                shutil.copyfileobj(content_body, file)

        write_atomically(self._folder / artifact_id, put)


def place_of_artifacts(text: str) -> str:
    """A place as a study keeps it: `s3://BUCKET`, or the whole path of a folder.

    Raises:
        InputError: It is a part of a bucket, or text that no file can have as its name.
    """
    if not text.startswith(BUCKET):
        try:
            return str(Path(text).resolve())
        except ValueError:  # a zero byte, half of a surrogate pair
            got = f"'{printable(text)}'"
            raise InputError(OPTION, f"it is the path of a folder, or {BUCKET}BUCKET", got, "Give one.") from None
    bucket = text.removeprefix(BUCKET).rstrip("/")
    if not bucket or "/" in bucket:
        raise InputError(OPTION, "a store in S3 is a bucket, s3://BUCKET", f"'{text}'", "Make one for studies.")
    return BUCKET + bucket


class Artifacts:
    """The files of one study.

    Args:
        place: As of `place_of_artifacts`.
        study: Optuna's.
        storage: Of the study.
    """

    def __init__(self, place: str, study: optuna.Study, storage: BaseStorage) -> None:
        self.place, self._study, self._storage = place, study, storage
        self._store: Any = None

    def check(self, *, new: bool = False) -> None:
        """Prove that files can be put there, of somebody who waits for the answer.

        Args:
            new: A folder is created; else one that is not there was not mounted.

        Raises:
            StudyError: They cannot.
        """
        where = f"{OPTION} {self.place}"
        with self._errors():
            if self.place.startswith(BUCKET):
                bucket = self._bucket(hurried=True)
                name = f"probe-{uuid.uuid4().hex}"
                bucket.write(name, io.BytesIO())
                with suppress(Exception):  # who may put files there may not be allowed to remove them
                    bucket.remove(name)
            elif not new and not Path(self.place).is_dir():
                todo = f"Mount it, or say where it is here: {OPTION} FOLDER"
                raise StudyError(where, "it is the folder that the study's files lie in", "no such folder", todo)
            else:
                try:
                    make_folder(Path(self.place))
                except StudyError as error:
                    raise StudyError(where, error.rule, error.got, "Choose another.") from None

    def send(self, path: Path, trial: int | None = None) -> None:
        """Put a file there, of a trial by its number or else of the study.

        Raises:
            StudyError: It cannot be put there.
        """
        with self._errors():
            upload_artifact(
                artifact_store=self._opened(),
                file_path=str(path),
                study_or_trial=self._of(trial),
                storage=self._storage,
            )

    def fetch(self, path: Path, trial: int | None = None) -> bool:
        """Get the file that was sent last under the name of `path`; whether there was one.

        Raises:
            StudyError: The store cannot be read, or the file not be written.
        """
        metas = [m for m in self._metas(trial) if m.filename == path.name]
        with self._errors():
            make_folder(path.parent)
            for meta in reversed(metas):
                try:
                    write_atomically(path, lambda to, meta=meta: self._download(to, meta))  # type: ignore[misc]  # a default
                except ArtifactNotFound:  # whoever sent it was killed before it was there
                    continue
                return True
        return False

    def put(self, name: str, content: bytes) -> None:
        """Put bytes there under a name that nothing in the storage tells, in the place of earlier ones.

        For what is written again and again: of each file that is sent the storage keeps a line for ever.

        Raises:
            StudyError: They cannot be put there.
        """
        with self._errors():
            self._opened().write(name, io.BytesIO(content))

    def get(self, name: str) -> bytes | None:
        """What was put under a name, if there is something.

        Raises:
            StudyError: The store cannot be read.
        """
        with self._errors(), suppress(ArtifactNotFound):
            with self._opened().open_reader(name) as file:
                content: bytes = file.read()
            return content
        return None

    def remove(self, name: str) -> None:
        """Remove what was put under a name, if there is something and it can be removed."""
        with suppress(Exception):
            self._opened().remove(name)

    def names(self) -> set[str]:
        """Files of the study itself that were sent."""
        found = {m.filename for m in self._metas(None)}
        return {name for name in found if Path(name).name == name and not name.startswith(".")}

    def _metas(self, trial: int | None) -> list[ArtifactMeta]:
        return get_all_artifact_meta(self._of(trial), storage=self._storage)

    def _of(self, trial: int | None) -> optuna.Study | FrozenTrial:
        if trial is None:
            return self._study
        study = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(study, trial))

    def _download(self, to: Path, meta: ArtifactMeta) -> None:
        download_artifact(artifact_store=self._opened(), file_path=str(to), artifact_id=meta.artifact_id)

    def _opened(self) -> Any:
        if self._store is None:
            self._store = self._bucket() if self.place.startswith(BUCKET) else _Folder(Path(self.place))
        return self._store

    def _bucket(self, **how: bool) -> Any:
        with needs("s3", f"{OPTION} {self.place}"):  # its module imports boto3
            made = load("utuning_search.search.bucket", "Bucket")
        return made(self.place.removeprefix(BUCKET), **how)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Make one StudyError of what a store raises, whatever library it is of."""
        try:
            yield
        except (UTuningError, ArtifactNotFound, optuna.exceptions.OptunaError):
            raise
        except Exception as error:
            got = (
                f"{type(error).__name__}: {mask(' '.join(str(error).split()))[:200]}"  # an endpoint may hold a password
            )
            todo = "Everything finished before is safe; mend the cause, or give another place for this machine."
            raise StudyError(f"{OPTION} {self.place}", "files can be put there and read", got, todo) from None
