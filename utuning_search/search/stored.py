"""What a storage holds of a study besides its trials: what it was created with, checked as it is read."""

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.toml import build
from utuning_search.data.decoding import Decoding
from utuning_search.search.layout import SPEC
from utuning_search.search.queue import SUFFIX as QUEUE
from utuning_search.search.spec import RESTORE, StudySpec
from utuning_search.search.storage import open_storage, place_of, storage_errors
from utuning_search.tuners import BackboneShape

ARTIFACTS = "artifacts"  # user attribute of a study: the place of its artifact store
SHOWN = 5  # studies that an error names


@dataclass(frozen=True)
class Stored:
    """What a study was created with.

    Attributes:
        spec: Of the study.
        shape: Of its backbone.
        decoding: How pictures are read where files say little.
        classes: Their names.
        validation: Images that trials are measured on; 0 where an older version kept nothing of it.
        artifacts: Place of its artifact store; empty without one.
    """

    spec: StudySpec
    shape: BackboneShape
    decoding: Decoding
    classes: list[str]
    validation: int = 0
    artifacts: str = ""


def open_study(url: str | None, folder: Path) -> tuple[BaseStorage, optuna.Study, Stored]:
    """The study of a folder's name, in a storage or in the journal of that folder.

    Raises:
        StudyError: The storage cannot be opened, holds no such study, or holds one that is no study of ours.
    """
    where = place_of(url, folder)
    with storage_errors(url, folder):
        storage = open_storage(url, folder)
        try:
            study = optuna.load_study(study_name=folder.name, storage=storage)
        except KeyError:
            raise _another(folder, url, storage) from None
        try:
            attributes = study.user_attrs
            shape, classes, spec = (attributes[name] for name in ("shape", "classes", "spec"))
            decoding, validation = attributes.get("decoding", {}), attributes.get("validation", 0)
        except KeyError:
            raise StudyError(where, f"it holds the study '{folder.name}'", "nothing of it", RESTORE) from None
    try:
        known = build(BackboneShape, shape, f"{where}, shape")
        stored = StudySpec.from_dict(spec, f"{where}, spec")
    except AttributeError as error:  # no table at all
        raise StudyError(where, "it holds the study's spec", f"AttributeError: {error}", RESTORE) from None
    try:
        read = Decoding.from_dict(decoding)
    except InputError as error:
        raise StudyError(where, "it holds how pictures are read", error.got, RESTORE) from None
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise StudyError(where, "it holds the names of the study's classes", repr(classes)[:60], RESTORE)
    place = attributes.get(ARTIFACTS, "")
    if not isinstance(place, str):
        raise StudyError(where, "it holds the place of the study's artifact store", repr(place)[:60], RESTORE)
    counted = validation if isinstance(validation, int) else 0
    return storage, study, Stored(stored, known, read, classes, counted, place)


def _another(folder: Path, url: str | None, storage: BaseStorage) -> StudyError:
    """What is said where a storage holds no study of a folder's name."""
    where, rule = place_of(url, folder), f"it holds the study '{folder.name}'"
    names = [n for n in optuna.get_all_study_names(storage) if not n.endswith(QUEUE)]
    if url is not None and not (folder / SPEC).exists():
        got = f"{'others: ' + ', '.join(names[:SHOWN]) if names else 'none'}{', ...' if names[SHOWN:] else ''}"
        return StudyError(where, rule, got, f"Start one with: utuning-search run --name {folder.name} --storage URL")
    if url is None and len(names) == 1:  # a folder's journal has one
        todo = f"Call the folder {names[0]} again, as a study has its folder's name."
        return StudyError(where, rule, f"the study '{names[0]}'", todo)
    got = f"others: {', '.join(names[:SHOWN])}{', ...' if names[SHOWN:] else ''}" if names else "nothing of it"
    todo = f"If its folder was renamed, call it again what the study is called. {RESTORE}" if names else RESTORE
    return StudyError(where, rule, got, todo)
