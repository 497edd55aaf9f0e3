"""A report is whole, safe to open, says what the study says, and a browser shows it."""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
import pytest

from utuning_search.results.finalists import select
from utuning_search.results.kept import kept_confirmation
from utuning_search.results.outcomes import Outcome, keep_outcome
from utuning_search.results.predictions import keep_labels, keep_predictions
from utuning_search.results.report.axes import AXES, GAP, LETTER, widened
from utuning_search.results.report.provenance import command_of
from utuning_search.results.report.write import report, write_report
from utuning_search.search.running import Next
from utuning_search.search.study import Study
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.task import Task

IMAGES, TRIALS, HIDDEN = 60, 14, "<script>alert('a name')</script>"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with finals, whose trainings are pretended; a class has a hostile name."""
    folder = tmp_path_factory.mktemp("studies")
    study = Study.create("smoke", "digits", name="pretended", studies_dir=folder, sampler="random", pruner="pareto")
    study.classes[3] = HIDDEN
    pretend = PretendStudy()
    pretend.scheduler, pretend.spec = study.scheduler, study.spec
    while study.scheduler.history.settled < TRIALS:
        running, step = study.scheduler.ask()
        if step is Next.TRAIN:
            pretend.train(running)
    (study.folder / "finals").mkdir()
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, IMAGES)
    keep_labels(study.folder, labels)
    for i, finalist in enumerate(select(study.trials(), study.spec, study.shape, 10, top=2, presets=())):
        for seed in range(2):
            answered = np.where(draw.random(IMAGES) < 0.8, labels, (labels + 1) % 10)
            right = float((answered == labels).mean())
            key, table = finalist.design.key, finalist.design.to_dict()
            for epochs in (12, 3)[: 2 if i == 0 else 1]:  # one was confirmed before, with fewer epochs
                outcome = Outcome(key, table, seed, epochs, True, "data", IMAGES, "cpu", "fp32", right, 1.0, 1.0, 1.0)
                keep_predictions(study.folder, outcome, answered)
                keep_outcome(study.folder, outcome)
    return study


@pytest.fixture(scope="module")
def shown(study: Study) -> str:
    return report(study)


class _Page(HTMLParser):
    """Tags and what tables and charts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.charts: dict[str, dict[str, Any]] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        named = dict(attrs).get("id") or ""
        self._inside = named if tag == "script" and named.endswith("-data") else "td" if tag == "td" else ""
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "td":
            self.cells[-1] += data
        elif self._inside:
            self.charts[self._inside.removesuffix("-data")] = json.loads(data)


def test_charts_are_what_plotly_takes_and_hold_every_trial(study: Study, shown: str) -> None:
    page = _Page(shown)
    found, _ = kept_confirmation(study)
    assert found is not None
    confused = [f"confusion-{i}" for i in range(len(found.finals))]
    assert len(confused) >= 2
    assert set(page.charts) == {"front-0", "curves", "importance", "finals", *confused}
    for drawn in page.charts.values():
        go.Figure(drawn)  # refuses what its schema does not know
    records = [r for r in study.trials() if r.reused is None]
    front = {trace["meta"]["group"]: trace for trace in page.charts["front-0"]["data"]}
    assert sum(len(trace["x"]) for trace in front.values()) == len([r for r in records if r.settled])
    best = study.front()
    assert front["front"]["x"] == [r.parameters for r in best]
    assert front["front"]["y"] == pytest.approx([100 * (r.accuracy or 0) for r in best])
    for record, hover in zip(best, front["front"]["hovertext"], strict=True):
        assert f"trial {record.number}" in hover
        assert f"{record.parameters:,}" in hover
        assert str(record.design).split(";")[0].split(",")[0] in hover
    assert all(
        low > 0 and high > 0
        for low, high in zip(front["front"]["error_y"]["arrayminus"], front["front"]["error_y"]["array"], strict=True)
    )
    scale = page.charts["confusion-0"]["data"][0]["colorscale"]
    lightness = [sum(bytes.fromhex(color[1:])) for _, color in scale]
    assert lightness == sorted(lightness, reverse=True), "what is never answered is white"
    assert front["front"]["mode"].startswith("lines"), "of two objectives a line separates it from the rest"
    points = [trace["x"] for trace in page.charts["finals"]["data"]]
    drawn = sorted(x for xs in points for x in xs)
    assert drawn == sorted(f.finalist.parameters for f in found.finals), "each once, whether it survives or not"
    opacities = {trace["meta"]["group"]: trace["opacity"] for trace in page.charts["curves"]["data"]}
    assert opacities.pop("front") == 1
    assert all(0.5 < opacity < 1 for opacity in opacities.values()), "behind the front, and seen"
    lines = sum(trace["x"].count(None) for trace in page.charts["curves"]["data"])
    assert lines == sum(len(trace["x"]) for trace in front.values())


def test_names_have_room_beside_their_points() -> None:
    names = [(0.0, "Linear probe", "top left"), (0.5, "7", "top left"), (1.0, "U-Tuning dual", "bottom right")]
    low, high = widened((0.0, 1.0), names)
    assert low < 0
    assert high > 1
    for x, name, position in names:
        room = (x - low if position == "top left" else high - x) / (high - low)
        assert room * AXES >= 0.99 * (GAP + LETTER * len(name))
    assert widened((0.0, 1.0), [(0.5, "7", "top left")]) == [0.0, 1.0], "where there is room, nothing moves"


def test_tables_say_what_the_study_says(study: Study, shown: str) -> None:
    cells = _Page(shown).cells
    for record in study.front():
        assert f"{100 * (record.accuracy or 0):.2f}%" in cells
        assert str(record.design) in cells
    found, others = kept_confirmation(study)
    assert found is not None
    assert others == 2, "of 3 epochs"
    assert found.epochs == 12
    for final in found.finals:
        assert f"{100 * (final.mean or 0):.2f} ± {100 * (final.sd or 0):.2f}" in cells
    assert any(cell.startswith(f"{TRIALS} trials (") for cell in cells)


def test_nothing_in_the_file_leads_out_of_it(shown: str) -> None:
    page = _Page(shown)
    assert not [a for _, a in page.tags if "src" in a], "no script, picture or frame of elsewhere"
    assert [a.get("href") for _, a in page.tags if "href" in a] == ["data:,"]
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in (policy or "")


def test_names_of_others_are_text(shown: str) -> None:
    assert HIDDEN not in shown
    assert "&lt;script&gt;alert" in json.dumps(_Page(shown).charts["confusion-0"]), "as text, where plotly reads tags"


def test_a_report_is_the_same_file_again_and_whole_or_not_there(study: Study, shown: str, tmp_path: Path) -> None:
    write_report(study, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == shown
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]


def test_the_command_makes_a_study_of_the_same_spec(study: Study) -> None:
    from utuning_search.cli.parser import make_parser
    from utuning_search.cli.run import _objectives

    command, missing = command_of(study)
    given = make_parser().parse_args(command.split()[1:])
    assert not missing
    again = Study.create(
        given.space, given.task, name="again", studies_dir=study.folder.parent, seed=given.seed, sampler=given.sampler,
        pruner=given.pruner, objectives=_objectives(given), precision=given.precision,
    )  # fmt: skip
    assert again.spec == study.spec


def test_what_is_not_bundled_is_named_by_its_file(study: Study) -> None:
    from dataclasses import replace

    task = replace(Task.load("digits"), name="mine")
    other = Study.create("smoke", task, name="other", studies_dir=study.folder.parent)
    command, missing = command_of(other)
    assert "--task mine.toml" in command
    assert missing == "Its [task] is not bundled: see spec.toml, below."


def test_a_study_without_trials_has_a_report(study: Study) -> None:
    empty = Study.create("smoke", "digits", name="empty", studies_dir=study.folder.parent)
    page = _Page(report(empty))
    assert set(page.charts) == {"front-0", "curves"}
    assert "0 trials (), 0 epochs, 0 seconds of training" in page.cells


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; the tests that look are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
    ):
        options.add_argument(word)
    options.page_load_strategy = "none"  # a client waits two minutes for a page, which a busy machine may need
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_script_timeout(100)  # seconds; less than a client waits for an answer
    yield opened
    opened.quit()


def wait(browser: Any, script: str) -> object:
    """What a script gives once it gives something; drawing takes as long as it takes."""
    from selenium.common.exceptions import TimeoutException

    for _ in range(6000):
        with contextlib.suppress(TimeoutException):  # while it reads or draws it answers nothing
            found = browser.execute_script(f"return {script}")
            if found:
                return cast(object, found)
        time.sleep(0.1)
    raise AssertionError(script)


def test_a_browser_shows_it(browser: Any, study: Study, shown: str, tmp_path: Path) -> None:
    """Points can be hovered, switches work, nothing is complained of, and no request leaves the file."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    path = tmp_path / "report.html"
    path.write_text(shown, encoding="utf-8")
    browser.get(path.as_uri())
    wait(browser, "document.readyState === 'complete' && document.querySelector('.chart') !== null")
    wait(browser, "[...document.querySelectorAll('.chart')].every(c => c.dataset.drawn)")
    front = browser.find_element(By.ID, "front-0")

    def visible(group: str) -> bool:
        own = f"document.getElementById('front-0').data.filter(t => t.meta.group === '{group}')"
        return all(v is not False for v in browser.execute_script(f"return {own}.map(t => t.visible)"))

    def points() -> int:
        return len(front.find_elements(By.CSS_SELECTOR, ".scatterlayer .point"))

    boxes = (
        "(q) => [...document.querySelectorAll(q)].map(e => e.getBoundingClientRect())"
        ".filter(b => b.width).map(b => [b.left, b.right])"
    )
    for place in ("front-0", "finals"):
        names = browser.execute_script(f"return ({boxes})('#{place} .textpoint text')")
        (axes,) = browser.execute_script(f"return ({boxes})('#{place} .nsewdrag')")
        assert names
        assert all(axes[0] <= left <= right <= axes[1] for left, right in names), "no name is cut, or on a tick"

    before = points()
    assert before == len([r for r in study.trials() if r.settled and r.reused is None])
    for group in ("dominated", "pruned"):
        box = browser.find_element(By.CSS_SELECTOR, f"input[data-chart=front-0][data-group={group}]")
        box.click()
        assert not visible(group)
        assert visible("front")
    wait(browser, f"document.querySelectorAll('#front-0 .scatterlayer .point').length === {len(study.front())}")
    browser.find_element(By.CSS_SELECTOR, "input[data-chart=front-0][data-group=dominated]").click()
    wait(browser, f"document.querySelectorAll('#front-0 .scatterlayer .point').length > {len(study.front())}")
    assert front.find_elements(By.CSS_SELECTOR, ".errorbar")
    browser.find_element(By.CSS_SELECTOR, "input[data-chart=front-0][data-what=bars]").click()
    wait(browser, "document.querySelectorAll('#front-0 .errorbar').length === 0")
    browser.find_element(By.CSS_SELECTOR, "input[data-chart=front-0][data-what=names]").click()
    wait(browser, "document.querySelectorAll('#front-0 .textpoint').length === 0")

    best = study.front()[-1]
    last = front.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace:last-child .point")[-1]
    ActionChains(browser).move_to_element(last).perform()
    said = str(wait(browser, "document.querySelector('#front-0 .hoverlayer').textContent"))
    assert f"trial {best.number}" in said
    assert f"{best.parameters:,}" in said

    panels = browser.find_elements(By.CSS_SELECTOR, ".confusion")
    assert [p.is_displayed() for p in panels] == [True, *[False] * (len(panels) - 1)]
    browser.find_elements(By.CSS_SELECTOR, "select option")[1].click()
    assert [p.is_displayed() for p in panels][:2] == [False, True]

    offered = [b.get_attribute("data-title") for b in browser.find_elements(By.CSS_SELECTOR, ".modebar-btn")]
    assert offered
    assert not [o for o in offered if re.search("cloud|share|send", o.lower())], "nothing is offered that sends data"
    complaints = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert complaints == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the log holds requests"
    own = re.compile(rf"data:|blob:|{re.escape(path.as_uri())}$")
    assert [url for url in asked if not own.match(url)] == []
