"""What the name of a backbone names: a timm model, a repository of the Hugging Face hub, or a folder.

The prefixes are timm's own, so that a name that timm takes is taken here and the other way round.
"""

import re
from dataclasses import dataclass

from utuning_search.common.errors import InputError

HUB, FOLDER = "hf-hub", "local-dir"
SOURCES = {HUB: HUB, "hf_hub": HUB, FOLDER: FOLDER}  # timm still takes the second spelling
PREFIX = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-_]+):(.*)", re.DOTALL)  # two characters at least: C:\ is a drive
COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Named:
    """What a name says.

    Attributes:
        source: "hf-hub", "local-dir", or empty for timm's models and the bundled one.
        place: The repository, the folder, or the name itself.
        revision: Branch, tag or commit of a repository; empty where the name says none.
    """

    source: str
    place: str
    revision: str = ""

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.source}:{self.place}{at}" if self.source else self.place


def parse_name(name: str) -> Named:
    """What a backbone's name says; nothing is looked up.

    Args:
        name: Of a timm model; `hf-hub:USER/MODEL`, with `@REVISION` or without; `local-dir:PATH`; or a path, which has
            a slash in it or begins with a dot: of a folder `model` that is `./model`.

    Raises:
        InputError: It has another prefix, or nothing after it, or says no repository.
    """
    where, found = "backbone", PREFIX.fullmatch(name)
    if found is None:
        is_path = "/" in name or "\\" in name or name.startswith((".", "~"))
        return Named(FOLDER if is_path else "", name)
    source, place = SOURCES.get(found[1].lower()), found[2]
    if source is None:
        todo = "Without a prefix it is a timm model, or the path of a folder."
        raise InputError(where, f"a prefix of its name is {HUB}: or {FOLDER}:", f"'{found[1]}:'", todo)
    if not place:
        what = "USER/MODEL" if source == HUB else "the path of a folder"
        raise InputError(where, f"{what} stands after {source}:", "nothing")
    if source == FOLDER:
        return Named(source, place)
    repository, at, revision = place.partition("@")
    if not REPOSITORY.fullmatch(repository) or (at and (not revision or "@" in revision)):
        rule = f"a repository of the Hugging Face hub is named {HUB}:USER/MODEL or {HUB}:USER/MODEL@REVISION"
        raise InputError(where, rule, f"'{name}'")
    return Named(source, repository, revision)


def is_commit(revision: str) -> bool:
    """Whether a revision of a repository names the same files for ever."""
    return COMMIT.fullmatch(revision) is not None
