"""Names of classes that may mean something else: what lies around images, a value that is missing, the same again."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from utuning_search.common.wording import counted, listed
from utuning_search.data.layout import AROUND, ASIDE

BESIDE = (AROUND | ASIDE) - {"fig", "raw"}  # which are as often what images show
_MISSING = "nan NaN NAN null NULL None <NA> N/A n/a #N/A NaT"  # as programs write it
MISSING = frozenset(_MISSING.split())


def doubts(names: Iterable[str]) -> Iterator[str]:
    """A line for each kind of classes whose names may not be meant."""
    known = list(names)
    beside = [f"'{name}'" for name in known if name.casefold() in BESIDE]
    if beside:
        yield f"{counted(len(beside), 'class')} called like what lies around images, {listed(beside)}: is that meant?"
    missing = [f"'{name}'" for name in known if name in MISSING]
    if missing:
        yield f"{counted(len(missing), 'class')} called like a value that is missing, {listed(missing)}: is that meant?"
    groups: dict[str, list[str]] = {}
    for name in known:
        groups.setdefault(_bare(name), []).append(f"'{name}'")
    alike = [" and ".join(group) for group in groups.values() if len(group) > 1]
    if alike:
        yield f"classes of nearly the same name, {listed(alike)}: are they one? Then give them one name."


def _bare(name: str) -> str:
    """The same for names of which one is taken for the other, or is what programs call a copy of it."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(c for c in folded if unicodedata.category(c) != "Cf").strip()  # what takes no room
    original = re.sub(r"(\s+-)?\s+copy$|\s*\(\d{1,2}\)$", "", seen)
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", original)
