"""What folders and labels are called that are splits or parts of a data set, and no classes."""

import re
from collections.abc import Iterable

TRAIN_NAMES = ("train", "training", "trainval", "trn")
TEST_NAMES = ("test", "testing", "tst", "eval", "evaluation", "holdout", "val", "valid", "validation", "dev")
# Words beside these that leave a folder what it is: training_set, seg_test, images-val, trainData ...
_BESIDE = """all cropped data dataset files folder full image images img imgs labeled labelled new part photo photos pic
    pics pred picture pictures raw resized samples seg set sets split splits subset x"""
BESIDE = frozenset(_BESIDE.split())
# With a number behind them they are parts of a data set: fold1, fold_2, part-03.
FOLD = re.compile(r"(cv|k?fold|split|part|subset|batch|chunk|shard|group|session)[\W_]*\d+", re.IGNORECASE)


def role_of(name: str) -> tuple[str, frozenset[str]]:
    """Whether a folder is called like a split: "train", one of `TEST_NAMES` or empty; and its other words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    words = [part for word in re.findall(r"[a-z]+", spaced) for part in _unglued(word)]
    roles = [w for w in words if w in TRAIN_NAMES or w in TEST_NAMES]
    others = frozenset(w for w in words if w not in roles and w not in BESIDE)
    if len(roles) != 1 or re.search(r"[^\W\d_a-z]", spaced):  # in another alphabet it is a word we do not know
        return "", others
    return ("train" if roles[0] in TRAIN_NAMES else roles[0]), others


def roles_of(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that are called like a split, alone or beside another with the same further words."""
    found = {name: role_of(name) for name in names}
    return {
        name: role
        for name, (role, others) in found.items()
        if role and (not others or any(r and r != role and o == others for r, o in found.values()))
    }


def _unglued(word: str) -> list[str]:
    """testset as test, set."""
    for role in (*TRAIN_NAMES, *TEST_NAMES):
        for first, rest in ((role, word.removeprefix(role)), (word.removesuffix(role), role)):
            if first != word and rest != word and (first in BESIDE or rest in BESIDE):
                return [first, rest]
    return [word]
