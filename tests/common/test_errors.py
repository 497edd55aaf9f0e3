"""Errors: they say where, the rule, what they got and what to do, survive pickling, and know the nearest name."""

import pickle

import pytest

from utuning_search.common import errors
from utuning_search.common.errors import InputError, UTuningError, nearest, refuse_unknown_keys

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, UTuningError)]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=[c.__name__ for c in CLASSES])


@every_class
def test_message_has_all_four_parts(cls: type[UTuningError]) -> None:
    error = cls("a.toml, key 'rank'", "rank is at least 1", 0, "Raise it.")
    assert str(error) == "a.toml, key 'rank': rank is at least 1; got 0. Raise it."
    assert (error.where, error.rule, error.got, error.todo) == (
        "a.toml, key 'rank'",
        "rank is at least 1",
        "0",
        "Raise it.",
    )


@every_class
def test_advice_may_be_left_out(cls: type[UTuningError]) -> None:
    assert str(cls("here", "it holds", [1, 2])) == "here: it holds; got [1, 2]."


@every_class
def test_pickle_round_trip(cls: type[UTuningError]) -> None:
    """Workers are other processes; what is not a string need not be picklable."""
    error = cls("here", "it holds", lambda: None, "Mend it.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert (again.where, again.rule, again.got, again.todo) == (error.where, error.rule, error.got, error.todo)


@every_class
def test_one_base_catches_all(cls: type[UTuningError]) -> None:
    with pytest.raises(UTuningError):
        raise cls("here", "it holds", 1)


def test_input_error_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("name", "known", "advice"),
    [
        ("adaptor", ("lora", "adapter"), "Did you mean 'adapter'? Known: adapter, lora."),
        ("adapter", ("lora", "adapter"), "Did you mean 'adapter'? Known: adapter, lora."),
        ("xyzzy", ("lora", "adapter"), "Known: adapter, lora."),
        ("x", (), "Known: none."),
        (3, ("lora",), "Known: lora."),
        (None, {"lora": 1}, "Known: lora."),
    ],
)
def test_nearest(name: object, known: tuple[str, ...], advice: str) -> None:
    assert nearest(name, known) == advice


def test_nearest_does_not_depend_on_order() -> None:
    assert nearest("blok", ("block", "blocks", "bloc")) == nearest("blok", ("bloc", "blocks", "block"))


def test_nearest_of_hundreds_lists_a_few() -> None:
    many = [f"vit_{i}_patch" for i in range(400)]
    assert nearest("vit_71_path", many).startswith("Did you mean 'vit_71_patch'? Similar: vit_")
    assert len(nearest("vit_71_path", many)) < 120
    assert nearest("convnet", many) == "400 are known."


def test_known_keys_pass() -> None:
    refuse_unknown_keys({}, (), "here")
    refuse_unknown_keys({"a": 1, "b": 2}, iter(("a", "b", "c")), "here")


def test_unknown_key_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError) as refused:
        refuse_unknown_keys({"rank": 1, "activatoin": "gelu"}, ("rank", "activation"), "a.toml")
    message = (
        "a.toml: only known keys are allowed; got 'activatoin'. Did you mean 'activation'? Known: activation, rank."
    )
    assert str(refused.value) == message
