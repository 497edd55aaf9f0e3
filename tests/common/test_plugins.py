"""What a package registers: ours, then classes of installed distributions, looked at when they are asked for."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest

from utuning_search.common.errors import InputError
from utuning_search.common.plugins import Registry

GROUP = "utuning_search.shapes"
MODULE = "shapes_from_elsewhere"
Install = Callable[[str, str], None]


class Shape(ABC):
    kind: str

    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    kind = "square"

    def area(self) -> float:
        return 1.0


class Point(Square):
    kind = "point"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes an entry point of a distribution of its own; the last code is what all of them find in their module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)

    def new(points: str, code: str) -> None:
        name = f"shapes{len(list(tmp_path.glob('*.dist-info')))}"
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
        (tmp_path / f"{MODULE}.py").write_text(f"from {__name__} import Shape, Square\n{code}\n")

    return new


def shapes(*ours: type[Shape]) -> Registry[Shape]:
    return Registry(GROUP, ours or (Square, Point), Shape, "kind")


CIRCLE = "class Circle(Square): kind = 'circle'"


def test_ours_come_first_in_their_order() -> None:
    assert dict(shapes()) == {"square": Square, "point": Point}
    assert dict(shapes(Point, Square)) == {"point": Point, "square": Square}
    assert "circle" not in shapes()


def test_others_are_imported_when_they_are_asked_for(install: Install) -> None:
    """Not before: their module imports ours, which may be in the making."""
    install(f"b = {MODULE}:Circle\na = {MODULE}:Blob", f"{CIRCLE}\nclass Blob(Square): kind = 'blob'")
    registry = shapes()
    assert MODULE not in sys.modules
    assert list(registry) == ["square", "point", "blob", "circle"]
    assert registry["circle"] is sys.modules[MODULE].Circle
    assert len(registry) == 4


def test_what_is_not_known_may_have_to_be_installed() -> None:
    assert shapes().advice("sqare") == "Did you mean 'square'? Known: point, square. Others have to be installed."


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("class Circle(Square): kind = 'point'", "a kind is taken once; got 'point', which is .*Point. Rename one"),
        ("import nowhere_at_all", "it can be imported; got ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 / 0", "it can be imported; got ZeroDivisionError: division by zero. Mend or uninstall"),
        ("", f"it can be imported; got AttributeError: module '{MODULE}' has no attribute 'Circle'"),
        ("class Circle: kind = 'circle'", r"it is a subclass of .*\.Shape; got <class"),
        ("Circle = Square()", r"it is a subclass of .*\.Shape; got <"),
        ("class Circle(Shape): kind = 'circle'", "it has all that its base class asks for; got no area"),
        ("class Circle(Square): kind = 3", "its kind is a string; got 3"),
    ],
)
def test_what_cannot_be_registered_is_refused(code: str, rule: str, install: Install) -> None:
    install(f"round = {MODULE}:Circle", code)
    where = rf"^distribution shapes0, entry point {GROUP}: round = {MODULE}:Circle: "
    for _ in range(2):  # however often it is asked
        with pytest.raises(InputError, match=where + rule):
            list(shapes())


def test_two_distributions_cannot_share_a_name(install: Install) -> None:
    install(f"round = {MODULE}:Circle", CIRCLE)
    install(f"rounder = {MODULE}:Circle", CIRCLE)
    with pytest.raises(InputError, match=rf"^distribution shapes1, .* got 'circle', which is {MODULE}\.Circle\."):
        list(shapes())
