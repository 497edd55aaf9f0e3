"""The format `hub`: a tuner as a repository of the Hugging Face hub, with a model card; the door of huggingface_hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from utuning_search.backbones.names import FOLDER
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.text import python_string
from utuning_search.results.exported import README, TUNER_TOML, TUNER_WEIGHTS
from utuning_search.results.exports.base import Written, check_free
from utuning_search.results.exports.card import USED
from utuning_search.results.exports.model_card import checkpoint_said, model_card
from utuning_search.results.exports.tuner import prepare, with_threshold, write_tuner
from utuning_search.results.trained import source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

ANY = "USER/NAME"  # of a repository, until it has one


def export(
    study: Study,
    record: TrialRecord,
    out: Path,
    data_dir: str | None = None,
    repository: str = ANY,
    unknown: float | None = None,
) -> Written:
    """Write a trial's tuner with a model card, as a repository of the Hugging Face hub holds it.

    Folders of this machine are named by their last part only.

    Raises:
        StudyError: See `tuner.export_trial`.
    """
    source_of(study, record)
    check_free(out, (TUNER_TOML, TUNER_WEIGHTS, README))
    ready = with_threshold(prepare(study, record, data_dir), record, unknown)
    _leave_out_places(ready.table)
    with whole_folder(out, last=TUNER_TOML) as folder:
        apart = write_tuner(ready, folder).apart
        write_atomically(folder / README, model_card(study, record, ready.table, repository))
    local = checkpoint_said(study.spec.task.backbone)
    lines = ("from utuning_search import load_tuned", f"model = load_tuned({python_string(out)}{local})", USED)
    return Written(f"loaded again, its logits differ from the trial's by at most {apart:.1e}", lines)


def check_push(repository: str) -> None:
    """Raise InputError unless the name can be one of a repository and the user is logged in."""
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        rule = "it is the name of a repository on the Hugging Face hub, such as USER/NAME"
        raise InputError("--push", rule, f"'{repository}' ({str(error).splitlines()[0].rstrip('.')})") from None
    if get_token() is None:
        raise InputError("--push", "you are logged in to the Hugging Face hub", "no token", "Log in: hf auth login")


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the Hugging Face hub; the repository is made if it is not there.

    Returns:
        Its address.

    Raises:
        StudyError: The hub cannot be reached, or refuses it; the folder stays.
    """
    api = HfApi()
    try:
        address = str(api.create_repo(repository, exist_ok=True))
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A tuner by utuning-search")
    except Exception as error:  # of several libraries for the network
        said = f"{type(error).__name__}: {(str(error).strip() or 'no reason').splitlines()[0].rstrip('.')}"
        todo = f"The folder is whole: upload it with: hf upload {repository} {folder}"
        raise StudyError(f"--push {repository}", "the Hugging Face hub takes it", said, todo) from None
    return address


def _leave_out_places(table: dict[str, Any]) -> None:
    """Name the files and folders of this machine by their last part: a card is for everybody."""
    for part, key in ((table["backbone"], "checkpoint"), (table["task"]["data"], "root")):
        if part.get(key):
            part[key] = Path(part[key]).name
    if (spec := BackboneSpec(table["backbone"]["name"])).is_folder:
        table["backbone"]["name"] = f"{FOLDER}:{spec.title}"
