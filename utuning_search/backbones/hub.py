"""Files of backbones in repositories of the Hugging Face hub, fetched as the user has huggingface_hub configured.

Its own variables count: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. Where the hub cannot be asked, the cache is
taken. A commit, once known, names the same files for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from utuning_search.backbones.names import Named, is_commit
from utuning_search.common.errors import BackboneError, InputError

CONFIG = "config.json"
MAIN = "main"  # the branch that is meant where no revision is named


@dataclass(frozen=True)
class Commit:
    """Of a repository.

    Attributes:
        revision: 40 hexadecimal digits.
        note: One line where it is only what the cache has, because the hub could not be asked; else empty.
    """

    revision: str
    note: str = ""


def commit_of(named: Named) -> Commit:
    """The commit that a name of a repository stands for now; its config.json is in the cache then.

    Raises:
        InputError: There is no such repository, revision or config.json, or it may not be read.
        BackboneError: The hub cannot be asked, and the cache has none.
    """
    if is_commit(named.revision):
        fetch(named, named.revision, (CONFIG,))
        return Commit(named.revision)
    asked, failed = named.revision or MAIN, ""
    try:
        get_hf_file_metadata(hf_hub_url(named.place, CONFIG, revision=asked))
    except Exception as error:  # of several libraries for the network
        _refuse(error, named)
        failed = _said(error)
    # By the branch's name, so that the cache remembers what it stood for.
    revision = fetch(named, asked, (CONFIG,), offline=bool(failed), why=failed).parent.name
    if not failed:
        return Commit(revision)
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hugging Face hub cannot be reached"
    return Commit(revision, f"backbone {named}: {why}, so commit {revision[:12]} is taken from the cache")


def fetch(named: Named, revision: str, files: Sequence[str], *, offline: bool = False, why: str = "") -> Path:
    """The first of some files that a repository has, in the cache.

    Args:
        named: The repository.
        revision: Branch, tag or commit of it; what is cached of a commit is never asked for again.
        files: Names, the best first.
        offline: Take the cache only.
        why: Of that; for an error.

    Raises:
        InputError: It has none of them, or may not be read.
        BackboneError: The hub cannot be asked, and the cache has none of them.
    """
    missing = None
    for file in files:
        try:
            return Path(hf_hub_download(named.place, file, revision=revision, local_files_only=offline))
        except LocalEntryNotFoundError as error:
            missing = error
        except EntryNotFoundError:
            continue
        except Exception as error:
            _refuse(error, named)
            raise BackboneError(_where(named), "its files can be fetched", _said(error)) from None
    listed = " or ".join(files)
    if missing is None:
        raise InputError(_where(named), f"the repository holds {listed}", "no such file")
    why = why or _said(missing.__cause__ or missing)
    todo = f"Fetch it once with a network: hf download {named.place}" + (f" --revision {revision}" if revision else "")
    rule = f"the hub can be reached, or {listed} is in the cache, {constants.HF_HUB_CACHE}"
    raise BackboneError(_where(named), rule, why, f"{todo}. Or give a local folder.")


def fetch_optional(named: Named, commit: str, file: str) -> Path | None:
    """A file of a commit, in the cache; None if the repository has none.

    Raises:
        BackboneError: The hub cannot be asked, and the cache does not know: without the file it would be another model.
    """
    if not isinstance(try_to_load_from_cache(named.place, file, revision=commit), str | None):
        return None  # the hub said so
    try:
        return fetch(named, commit, (file,))
    except InputError:
        return None


def _refuse(error: Exception, named: Named) -> None:
    """Raise InputError where the hub has answered, and its answer is no."""
    where = _where(named)
    if isinstance(error, GatedRepoError):
        todo = "Accept its terms on its page, and log in: hf auth login"
        raise InputError(where, "you may read the repository", "one that is gated", todo) from None
    if isinstance(error, RepositoryNotFoundError):
        todo = "Look at its name; a private one wants a token: hf auth login"
        raise InputError(where, "the hub has the repository", "none that you may read", todo) from None
    if isinstance(error, RevisionNotFoundError):
        rule = "the repository has the revision"
        raise InputError(where, rule, f"no '{named.revision}'", "Name a branch, a tag or a commit.") from None
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        raise InputError(where, f"the repository holds {CONFIG}", "no such file") from None
    if isinstance(error, HFValidationError):
        raise InputError(where, "it is the name of a repository, such as USER/MODEL", _said(error)) from None


def _where(named: Named) -> str:
    return f"backbone '{named}'"


def _said(error: BaseException) -> str:
    text = (str(error).strip() or "no reason").splitlines()[0].rstrip(".")
    return f"{type(error).__name__}: {text}"
