"""A backbone in a repository of the hub or in a folder: its config.json now, its weights once they are wanted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from utuning_search.backbones.configured import Configured, read_configured, read_json, weights_in
from utuning_search.backbones.hub import CONFIG, commit_of, fetch, fetch_optional
from utuning_search.backbones.names import HUB, Named, parse_name
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.transformers_config import read_transformers
from utuning_search.common.errors import InputError

IMAGES = "preprocessor_config.json"  # of transformers: how its images are prepared


def opened(named: Named) -> tuple[Configured, Callable[[], Path]]:
    """What the config.json of a repository or folder says, and how the file with its weights is had.

    Args:
        named: With a source.

    Raises:
        InputError: There is no such repository or folder, or its config.json is none of a model that timm makes.
        BackboneError: The hub cannot be asked, and the cache has no config.json; or timm has no such model.
    """
    where = f"backbone '{named}'"
    if named.source == HUB:
        commit = commit_of(named).revision
        at = fetch(named, commit, (CONFIG,)).parent
        made = _read(at, where, lambda: fetch_optional(named, commit, IMAGES))
        return made, lambda: fetch(named, commit, made.weights)
    folder = Path(named.place).expanduser()
    if not folder.is_dir():
        todo = f"A timm model has no slash in its name; a repository of the hub is {HUB}:USER/MODEL."
        raise InputError(where, "it is a folder", "a file" if folder.exists() else "no such folder", todo)
    made = _read(folder.resolve(), where, lambda: path if (path := folder / IMAGES).exists() else None)
    return made, lambda: weights_in(folder, made)


def _read(folder: Path, where: str, images: Callable[[], Path | None]) -> Configured:
    """What a folder's config.json says, whichever library has written it; `images` is had for transformers' only."""
    table = read_json(folder / CONFIG, where)
    if "architecture" in table or "model_type" not in table:
        return read_configured(table, folder, where)
    found = images()
    return read_transformers(table, {} if found is None else read_json(found, where), where)


def pinned(spec: BackboneSpec) -> tuple[BackboneSpec, str]:
    """A spec with the commit that its repository's name stands for now, so that it names the same weights for ever.

    Returns:
        The spec, which is the same where it names no repository or has its commit; and one line where the hub could
        not be asked, so that it is the cache's, else empty.

    Raises:
        InputError, BackboneError: As of `opened`.
    """
    named = parse_name(spec.name)
    if named.source != HUB or spec.pinned:
        return spec, ""
    found = commit_of(Named(HUB, named.place, spec.revision or named.revision))
    return replace(spec, revision=found.revision), found.note
