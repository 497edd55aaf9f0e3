"""Which folders of a folder are splits and which are classes: by their names, and by what lies in them.

A split that is read as a class gives a tuner that tells training images from test images, and does it well; so what
looks like one is refused as a class, with where the classes may be.
"""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utuning_search.common.errors import DataError
from utuning_search.common.wording import listed
from utuning_search.data.listing import files_below, is_image
from utuning_search.data.split_names import FOLD, TEST_NAMES, role_of, roles_of

# What repositories keep around their images, and what beside them.
_AROUND = "data dataset datasets image images img imgs jpegimages photos pictures raw"
_ASIDE = """additional annotations assets bboxes checkpoints demo doc docs example examples extra extras fig figs
    figures gt groundtruth labels logs masks misc models notebooks output outputs results runs sample samples scripts
    segmentations src thumbnails thumbs tmp unlabeled unlabelled unsup unsupervised visualizations weights"""
AROUND, ASIDE = (frozenset(words.split()) for words in (_AROUND, _ASIDE))
Place = tuple[str, ...]  # names of folders, one below the other


@dataclass(frozen=True)
class Splits:
    """Folders that hold the same classes for training and for the test.

    Attributes:
        train: Path below the root.
        test: Likewise; empty where there is none with images of these classes.
        unlabelled: Folders with a split's name and without a folder of any of the classes.
        unused: Others that are not used: further splits, and what lies beside them.
    """

    train: str
    test: str
    unlabelled: tuple[str, ...]
    unused: tuple[str, ...]


class Tree:
    """Where the images of a folder lie.

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        parents = Counter(path.parent for path in files_below(root) if is_image(path.name))
        self._direct = {parent.relative_to(root).parts: count for parent, count in parents.items()}

    def direct(self, place: Place = ()) -> int:
        """Images directly in a folder."""
        return self._direct.get(place, 0)

    def below(self, place: Place = ()) -> list[str]:
        """Names of the folders in a folder that hold images, directly or not; sorted."""
        depth = len(place)
        return sorted({p[depth] for p in self._direct if len(p) > depth and p[:depth] == place})

    def images(self, place: Place) -> int:
        """Images in a folder and in those below it."""
        return sum(count for p, count in self._direct.items() if p[: len(place)] == place)

    def branching(self, place: Place) -> Place:
        """Where something begins to branch: below folders that hold one folder and no image."""
        while not self.direct(place) and len(self.below(place)) == 1:
            place = (*place, *self.below(place))
        return place


def splits_of(tree: Tree) -> Splits | None:
    """The split folders at the top of a folder, whatever lies beside them; None if it has none.

    Raises:
        DataError: There are several for training, or something beside one might be a class.
    """
    names = tree.below()
    roles = roles_of(names)
    holders = {name: _unwrapped(tree, name) for name in roles}
    known = {n: {_alike(c) for c in tree.below(holders[n])} for n in roles}
    others = {c for n in roles if roles[n] != "train" for c in known[n]}
    # With images beside its folders it may be a class, unless another split has folders of the same names.
    holding = [n for n in roles if roles[n] == "train" and known[n]]
    trains = [n for n in holding if not tree.direct(holders[n]) or known[n] & others]
    if not trains:
        return None
    if len(trains) > 1:
        raise _refusal(tree.root, "one folder is for training", f"{listed(trains)}", trains[0])
    train = trains[0]
    tests = [n for n in roles if roles[n] != "train"]
    labelled = sorted((n for n in tests if known[train] & known[n]), key=lambda n: TEST_NAMES.index(roles[n]))
    beside = [n for n in names if n not in roles]
    doubtful = [n for n in beside if n.casefold() not in ASIDE]
    if not tests and doubtful:
        got = f"'{train}', with folders of images in it, beside {listed(doubtful)}"
        raise _refusal(tree.root, "no class has the name of a split", got, train)
    return Splits(
        "/".join(holders[train]),
        "/".join(holders[labelled[0]]) if labelled else "",
        tuple(n for n in tests if n not in labelled),
        (*labelled[1:], *(n for n in roles if roles[n] == "train" and n != train), *beside),
    )


def check_classes(tree: Tree, classes: Iterable[str], place: Place = ()) -> None:
    """Refuse to take splits, folds or a whole data set for a class.

    Args:
        tree: Of the root or a folder above the classes.
        classes: Names of folders in `place` that hold images.
        place: Where they lie.

    Raises:
        DataError: With where the classes may be.
    """
    folder, names = tree.root.joinpath(*place), sorted(classes)
    holders = {name: tree.branching((*place, name)) for name in names}
    inside = {name: tree.below(holders[name]) for name in names}
    below = {name: _quoted(tree.root.joinpath(*holders[name])) for name in names}
    roles = roles_of(names)
    if len(names) < 2:
        return
    nested = sorted(n for n in roles if inside[n] and not tree.direct((*place, n)))
    flat = _named_like_splits(names)
    if nested or flat:
        name = next((n for n in nested if roles[n] == "train"), (nested or flat)[0])
        todo = "" if nested else f"Move '{name}' elsewhere, or lay images out as train/<class>/<image>."
        raise _refusal(folder, "no class has the name of a split", f"'{name}' among {listed(names)}", name, todo)
    for name in names:
        if "train" in roles_of(inside[name]).values() and not _shares(inside):
            todo = f"Are these splits? Then give --data {below[name]}"
            raise _refusal(folder, "a class holds no splits", f"{listed(inside[name])} in '{name}'", name, todo)
    copied = {name: sorted(set(inside[name]) & set(names) - {name}) for name in names}
    twice = next((name for name in names if len(copied[name]) > 1), None)
    if twice:
        got = f"{listed(copied[twice])} beside '{twice}' and in it"
        todo = f"Move '{twice}' elsewhere, or give --data {below[twice]}"
        raise DataError(f"image folder {folder}", "no class holds folders of other classes", got, todo)
    shared = _shares(inside)
    parts = [name for name in names if name.casefold() not in ASIDE]
    if not shared and all(FOLD.fullmatch(name) and len(inside[name]) > 1 for name in parts):
        shared = sorted({inner for name in parts for inner in inside[name]})  # each may have classes of its own
    if shared:
        most = {n: tree.images((*place, n)) for n in names if set(shared) & set(inside[n])}
        holding = max(most, key=lambda n: most[n])
        got = f"{listed(shared)} in {listed(most)}"
        todo = f"Are these the classes? Then give --data {below[holding]}, or one folder with the images of all."
        if roles_of(shared):
            todo = "Lay images out as train/<class>/<image> and test/<class>/<image>."
        todo += " If not, put the images of each class into its folder itself."
        raise DataError(f"image folder {folder}", "classes do not all have the same folders in them", got, todo)
    large = [n for n in names if len(inside[n]) > 1]
    beside = [n for n in names if n not in large]
    if len(large) == 1 and (large[0].casefold() in AROUND or {n.casefold() for n in beside} <= ASIDE):
        got = f"'{large[0]}', with {listed(inside[large[0]])} in it, beside {listed(beside)}"
        raise _refusal(folder, "all classes lie side by side", got, large[0])


def refuse_splits(where: str, classes: Iterable[str]) -> None:
    """Refuse to take splits for classes that have no folders.

    Raises:
        DataError: One is called like a split, and is no class among others.
    """
    names = sorted(classes)
    found = _named_like_splits(names) if len(names) > 1 else []
    if found:
        todo = "If they are splits, name them in the column 'split'."
        got = f"'{found[0]}' among {listed(names)}"
        raise DataError(where, "no class has the name of a split", got, todo)


def _named_like_splits(names: Sequence[str]) -> list[str]:
    """Those of the classes that must be splits."""
    roles = roles_of(names)
    # A class of vehicles may be called 'train', with images in it as the others have, but not beside a 'test'.
    trains, others = (
        set(roles.values()) == {"train"},
        [n for n in names if n not in roles and n.casefold() not in ASIDE],
    )
    return sorted(roles) if roles and not (trains and others) else []


def check_same(
    where: str, train: Iterable[str], test: Iterable[str], train_name: str, test_name: str, *, scarce: bool
) -> None:
    """Refuse classes of the test that are not among those of training, and, unless `scarce`, the other way round.

    Raises:
        DataError: With what may be meant.
    """
    known, tested = set(train), set(test)
    odd = tested - known if scarce else tested ^ known
    if odd:
        rule, got = f"{train_name} and {test_name} have the same classes", ", ".join(sorted(odd)[:5])
        alike = [name for name in differing(known, tested) if "(" in name]
        todo = f"Rename {alike[0]}." if alike else "Rename them, or remove those that are in one only."
        raise DataError(where, rule, f"only one has {got}", todo)


def differing(train: Iterable[str], test: Iterable[str]) -> list[str]:
    """What classes of the test are not among those of training, each with what it may be meant to be."""
    known = {_alike(name): name for name in train}
    found = []
    for name in sorted(set(test) - set(known.values())):
        meant = known.get(_alike(name))
        how = "" if meant is None else f" (in training it is {_shown(meant, name)})"
        found.append(f"'{name}'{how}")
    return found


def _shown(meant: str, name: str) -> str:
    return f"'{meant}'" if _composed(meant) != _composed(name) else f"'{meant}' too, but in other code points"


def _alike(name: str) -> str:
    """The same for names that a file system or an archive may have made different."""
    return re.sub(r"[\s_-]+", " ", _composed(name).casefold()).strip()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _unwrapped(tree: Tree, name: str) -> Place:
    """Where the classes of a split lie: archives often hold training_set/training_set/<class>."""
    place: Place = (name,)
    while not tree.direct(place) and len(tree.below(place)) == 1:
        (inner,) = tree.below(place)
        if inner.casefold() not in AROUND and role_of(inner)[0] != role_of(name)[0]:
            break
        place = (*place, inner)
    return place


def _shares(inside: Mapping[str, list[str]]) -> list[str]:
    """Names that folders with several folders in them have in common, if these are two or more.

    In common has what most of them have; or any two, if that is so of most names.
    """
    several = [names for names in inside.values() if len(names) > 1]
    counts = Counter(name for names in several for name in names)
    shared = sorted(name for name, count in counts.items() if 2 * count > len(several) > 1)
    if len(shared) < 2:
        shared = sorted(name for name, count in counts.items() if count > 1)
        shared = shared if 2 * len(shared) > len(counts) else []
    return shared if len(shared) > 1 else []


def _refusal(folder: Path, rule: str, got: str, name: str, todo: str = "") -> DataError:
    todo = todo or f"Are the folders in it the classes? Then give --data {_quoted(folder / name)}"
    return DataError(f"image folder {folder}", rule, got, todo)


def _quoted(folder: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(folder))
