"""Pictures, reports and comparisons from the command line: what is written, and what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from .commands import INLINE, refused, succeeded

STARTS = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.usefixtures("studied")
def test_a_front_in_every_format_at_a_width(kind: str) -> None:
    succeeded("front", "smoke-tiny", "--out", f"front.{kind}", "--width", "80mm", "--title", "A title")
    content = Path(f"front.{kind}").read_bytes()
    assert content.startswith(STARTS[kind])
    if kind == "png":
        with Image.open("front.png") as picture:
            assert picture.width == pytest.approx(80 / 25.4 * 250, abs=1)
    if kind == "svg":
        assert b"A title" in content
        assert b"Linear probe" in content, "text stays text"
    if kind == "pdf":
        succeeded("front", "smoke-tiny", "--out", "again.pdf", "--width", "80", "--title", "A title")
        assert Path("again.pdf").read_bytes() == content, "without a date"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "front.gif"), "--out: it names a file that ends with .png, .pdf, .svg; got 'front.gif'."),
        (("--out", "f.pdf", "--width", "wide"), "--width: it is in millimetres, such as 80; got 'wide'."),
        (("--out", "f.pdf", "--width", "8"), "--width: a width is 60 to 400 mm; got 8."),
        (("--out", "f.pdf", "--width", "nan"), "--width: it is in millimetres, such as 80; got 'nan'."),
        (("--title", "A title"), "--title: it is of a picture, which --out FILE names; got no --out."),
    ],
)
@pytest.mark.usefixtures("studied")
def test_a_picture_that_cannot_be_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("front", "smoke-tiny", *arguments)


@pytest.mark.usefixtures("studied")
def test_finals_are_those_that_were_confirmed() -> None:
    said = refused("finals", "smoke-tiny")
    assert "it has finals; got none. Confirm its front: utuning-search confirm smoke-tiny" in said
    confirmed = succeeded("confirm", "smoke-tiny", "--top", "1", "--seeds", "1", "--epochs", "1", *INLINE, "--quiet")
    table = succeeded("finals", "smoke-tiny", "--out", "finals.pdf")
    assert table.strip() == confirmed.partition("\nPicture")[0].strip()
    assert Path("finals.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("studied")
def test_a_report_lies_in_the_study_or_where_it_is_asked_for() -> None:
    assert "Report  studies/smoke-tiny/report.html" in succeeded("report", "smoke-tiny")
    assert "Report  r.html" in succeeded("report", "smoke-tiny", "--out", "r.html")
    assert Path("r.html").read_bytes() == Path("studies/smoke-tiny/report.html").read_bytes()
    assert "it names a file that ends with .html; got 'r.pdf'" in refused("report", "smoke-tiny", "--out", "r.pdf")


def test_two_studies_side_by_side(studied: Path) -> None:
    run = ("run", "--space", "smoke", "--task", "tiny.toml", *INLINE)
    succeeded(*run, "--seed", "1", "--name", "other", "--trials", "4")
    said = succeeded("compare", "smoke-tiny", "other", "--out", "both.svg", "--width", "120")
    assert "Best accuracy within a size" in said
    assert "differs: seed: 0 in smoke-tiny, 1 in other" in said
    assert said.count("reached the hypervolume of") == 2
    assert b"smoke-tiny" in (studied / "both.svg").read_bytes()
    assert "it takes two studies; got 'other' twice" in refused("compare", "other", "other")
    weighed = ("--objectives", "accuracy,flops", "--name", "third", "--trials", "2")
    succeeded(*run, *weighed)
    told = refused("compare", "other", "third")
    assert "both studies weigh the same objectives; got accuracy, parameters and accuracy, flops" in told
