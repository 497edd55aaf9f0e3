"""`front`: one front in every format, and a picture."""

import csv
import io
import json

import pytest
from PIL import Image

from utuning_search.designs.design import Design

from .commands import refused, rows, succeeded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("front", "smoke-tiny", "--format", "yaml"), "--format: format is one of table, json, csv; got 'yaml'"),
        (("front", "smoke-tiny", "--png", "."), "--png: it names a file; got '.'"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_what_cannot_be_shown_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize("place_", ["no-such-folder/x.png", "tiny.toml/x.png", "studies"])
@pytest.mark.usefixtures("studied")
def test_a_picture_that_cannot_be_written_is_told(place_: str) -> None:
    assert f"file {place_}: it can be written" in refused("front", "smoke-tiny", "--png", place_)


@pytest.mark.usefixtures("studied")
def test_front_in_every_format_is_one_front() -> None:
    stored = rows("studies/smoke-tiny/front.csv")
    out = succeeded("front", "smoke-tiny", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(out))) == stored
    listed = json.loads(succeeded("front", "smoke-tiny", "--format", "json"))
    assert [str(r["trial"]) for r in listed] == [r["trial"] for r in stored]
    assert [Design.from_dict(r["design"]).key for r in listed] == [r["key"] for r in stored]
    table = succeeded("front", "smoke-tiny")
    for row in stored:
        assert f"{100 * float(row['accuracy']):.2f}%" in table
        assert f"{int(row['parameters']):,}" in table
        assert row["nearest"].split(",")[0] in table
    assert stored[0]["nearest"] == "Linear probe"
    assert [r["nearest"] for r in listed] == [r["nearest"] for r in stored]


@pytest.mark.parametrize("name", ["front.png", "front.jpg", "picture"])
@pytest.mark.usefixtures("studied")
def test_front_draws_a_png_whatever_its_name(name: str) -> None:
    succeeded("front", "smoke-tiny", "--png", name)
    with Image.open(name) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
