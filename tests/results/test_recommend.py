"""From a folder nobody has seen to a tuner: what is found in it, what is refused, and what comes out."""

import contextlib
import io
import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from utuning_search import load_tuned
from utuning_search.cli import recommend as command
from utuning_search.cli.main import main
from utuning_search.common.errors import DataError, InputError
from utuning_search.data.splits import apportion, hold_out_each, sample_each, split_each
from utuning_search.data.survey import survey
from utuning_search.designs.spaces.space import Space
from utuning_search.results.outcomes import Outcome
from utuning_search.results.recommend import finish, prepare, search
from utuning_search.results.recommend.plan import DESIGNS, FINALS_SHARE, Cost, plan_search
from utuning_search.results.rounds import Rounds
from utuning_search.search import budget
from utuning_search.search.budget import Budget
from utuning_search.search.callbacks.base import Callback, FinalRecord, Started
from utuning_search.search.runner import Snapshot
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training import full as full_training
from utuning_search.training.task import Task

optuna.logging.set_verbosity(optuna.logging.ERROR)

MANY, SOME, FEW = 24, 12, 3
CLASSES = {"zero": MANY, "one": SOME, "two": FEW, "three": 2, "four": 1}  # images of each
LIMIT, SEEDS, MOST_SEEDS = 6_000, 2, 5


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """No clock decides: images cost what is said here, and a search ends after a few designs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_training, "MOST_ROUNDS", 2)
        patch.setattr(prepare, "image_seconds", lambda *_: (0.4, 0.1))  # so that a training is of 9 epochs
        patch.setattr(search, "MOST_DESIGNS", 6)
        patch.setattr(finish, "MOST_SEEDS", SEEDS)
        yield


def picture(label: int, i: int) -> Image.Image:
    """A handwritten digit, grey, 8x8."""
    digits = load_digits()
    pixels = digits.images[digits.target == label][i]
    return Image.fromarray((pixels * 15).astype("uint8"))


def put(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with most of the faults that folders have, but for files that cannot be read."""
    root = tmp_path_factory.mktemp("recommend") / "my photos"
    for label, (name, count) in enumerate(CLASSES.items()):
        for i in range(count):
            image, folder = picture(label, i), root / name
            match i % 6:
                case 0:
                    put(folder / f"{i}.png", image)
                case 1:
                    put(folder / "more" / "and deeper" / f"{i}.PNG", image.convert("RGBA"))
                case 2:
                    put(folder / f"{i}.jpg", image.convert("RGB").resize((900, 700)))
                case 3:
                    put(folder / f"{i}.gif", image.convert("P"))
                case 4:
                    put(folder / f"{i}.tif", image.convert("CMYK"))
                case 5:
                    put(folder / f"{i}.bmp", image.resize((2, 3)))
    (root / "zero" / "notes.txt").write_text("mine")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    put(root / "cover.png", picture(0, 0))
    return root


@pytest.fixture
def own(plain: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(plain, tmp_path / "my photos"))


def run(data: Path, out: Path, *options: str) -> int:
    """The command, on the bundled backbone and in this process."""
    usual = ("--backbone", "glyph_vit", "--max-params", str(LIMIT), "--time", "1h", "--workers", "0")
    return main(["recommend", "--data", str(data), "--out", str(out), *usual, *options])


# What is found in a folder


def folder(root: Path, *files: str) -> Path:
    for name in files:
        put(root / name, picture(0, 0))
    return root


def notes(root: Path) -> str:
    return "\n".join(survey(root).notes())


def test_a_survey_counts_images_and_says_what_is_odd(plain: Path) -> None:
    found = survey(plain)
    assert found.classes == CLASSES
    assert found.test is None
    assert found.held_out == 0.2
    said = notes(plain)
    assert "1 class of one image, 'four': trained on, but" in said
    assert "1 class of two images, 'three'" in said
    assert "from 'four' with 1 to 'zero' with 24" in said
    assert "'zero' would reach 57%" in said  # 24 of 42
    assert "1 folder without an image, no class: empty." in said
    assert "1 image beside the class folders" in said
    assert "1 .txt" in said


def test_a_tidy_folder_has_no_notes(tmp_path: Path) -> None:
    assert notes(folder(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(4)))) == ""


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("train", "val"), ("Train", "Valid"), ("training", "validation")]
)
def test_split_folders_are_known_by_their_names(train: str, test: str, tmp_path: Path) -> None:
    found = survey(folder(tmp_path, f"{train}/a/1.png", f"{train}/a/2.png", f"{train}/b/1.png", f"{test}/a/1.png"))
    assert (found.train_folder, found.test_folder) == (train, test)
    assert (found.classes, found.test) == ({"a": 2, "b": 1}, {"a": 1})
    assert found.held_out == 0
    assert "1 class without a test image: 'b'." in "\n".join(found.notes())


def test_a_second_held_out_folder_is_named_as_unused(tmp_path: Path) -> None:
    found = survey(
        folder(tmp_path, *(f"{s}/{c}/{i}.png" for s in ("train", "val", "test") for c in "ab" for i in (1, 2)))
    )
    assert found.test_folder == "test"
    assert "'val' is not used" in "\n".join(found.notes())


def test_a_train_folder_alone_is_a_folder_of_classes(tmp_path: Path) -> None:
    found = survey(folder(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(3))))
    assert found.root == tmp_path / "train"
    assert found.test is None


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = survey(folder(tmp_path, *(f"{c}/{i}.png" for c in ("train", "bus", "tram") for i in range(3))))
    assert set(found.classes) == {"train", "bus", "tram"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a/1.png", "a/2.png"), "there are at least two classes; got one, 'a'"),
        (("photos/cat/1.png", "photos/dog/1.png"), "Are the folders in it (cat, dog) the classes?"),
        (("1.png", "2.png"), "every class has a folder with images; got no folder in it"),
        (("a/1.png", "a/2.png", "b/1.png"), "to train, to compare and to test on; got 2 at most"),
        (("train/a/1.png", "train/b/1.png", "test/a/1.png"), "to train and to compare on; got 1 at most"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        survey(folder(tmp_path, *files))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_empty_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="no image in 2 folders, a, b"):
        survey(tmp_path)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        survey(tmp_path / "nowhere")


# How it is shared out

COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=8)


def labels_of(counts: list[int]) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts), dtype=np.int64), counts))


@given(COUNTS, st.integers(0, 200))
def test_shares_add_up_within_their_bounds(counts: list[int], total: int) -> None:
    amounts = np.array(counts)
    least, most = np.minimum(amounts, 2), amounts
    shares = apportion(amounts, total, least, most)
    assert (shares >= least).all()
    assert (shares <= most).all()
    assert shares.sum() == min(max(total, least.sum()), most.sum())


@given(COUNTS, st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_each_class_keeps_two_images_and_gives_one_of_three(counts: list[int], share: float) -> None:
    labels = labels_of(counts)
    train, test = hold_out_each(labels, share)
    assert sorted([*train, *test]) == list(range(len(labels)))
    kept, given_away = (np.bincount(labels[rows], minlength=len(counts)) for rows in (train, test))
    for n, stays, goes in zip(counts, kept, given_away, strict=True):
        assert stays >= min(n, 2)
        assert (goes >= 1) == (n >= 3)
        assert abs(goes - n * share) <= 1.5 or stays == 2


@given(COUNTS, st.integers(0, 60), st.integers(0, 3))
def test_each_class_is_trained_on_and_compared_on(counts: list[int], validation: int, seed: int) -> None:
    labels = labels_of(counts)
    proxy, compared = split_each(labels, validation, seed)
    assert sorted([*proxy, *compared]) == list(range(len(labels)))
    assert (np.bincount(labels[proxy], minlength=len(counts)) >= 1).all()
    several = np.array(counts) >= 2
    assert (np.bincount(labels[compared], minlength=len(counts))[several] >= 1).all()
    assert np.array_equal(split_each(labels, validation, seed)[0], proxy)


def test_a_sample_is_of_its_size_and_by_seed() -> None:
    labels = labels_of([50, 30, 2, 1])
    rows = sample_each(labels, 40, 0)
    assert len(set(rows)) == len(rows) == 40
    assert Counter(labels[rows])[2] == 2
    assert not np.array_equal(sample_each(labels, 40, 1), rows)


# How much is trained in a time


@given(
    st.integers(2, 20_000),
    st.integers(2, 200),
    st.floats(1e-5, 1.0),
    st.floats(10, 10_000),
    st.integers(1, 8),
)
def test_plans_are_legal_and_fit(images: int, classes: int, cost: float, seconds: float, workers: int) -> None:
    plan = plan_search(images, classes, Cost(cost, cost / 3), seconds, workers)  # the recipe checks itself
    assert plan.proxy >= 1
    assert plan.validation >= 1
    assert plan.proxy + plan.validation <= images
    assert plan.limit == 0 or plan.proxy + plan.validation <= plan.limit < images
    assert 0 < plan.search_seconds < seconds
    if plan.limit > plan.proxy + plan.validation:  # the tuner that is exported is trained within its share of the time
        assert plan.limit * plan.recipe.epochs * cost <= FINALS_SHARE * seconds * 1.001


def test_more_time_makes_trials_larger_and_then_more_of_them() -> None:
    plans = [plan_search(5_000, 10, Cost(0.02, 0.007), minutes * 60, 2) for minutes in (1, 10, 60, 600)]
    sizes = [p.proxy * p.recipe.epochs for p in plans]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]
    assert plans[1].designs >= 0.7 * DESIGNS
    assert plans[3].designs > 4 * DESIGNS
    assert plans[0].limit
    assert plans[3].limit == 0


class Clock:
    """Time passes where a training takes it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def outcome(key: str, seed: int, accuracy: float | None = 0.5) -> Outcome:
    return Outcome(key, {}, seed, 1, True, "", 10, "cpu", "fp32", accuracy)


def played(
    expected: dict[str, float],
    seconds: float,
    *,
    real: float = 1.0,
    loading: float = 0.0,
    kept: dict[tuple[str, int], Outcome] | None = None,
    failing: str = "",
) -> list[tuple[str, int]]:
    """Turns of trainings one after the other, each of which takes `real` times what is expected."""
    clock, found = Clock(), dict(kept or {})
    rounds = Rounds(expected, seconds, clock)
    clock.now += loading
    turns = []
    for key, seed in rounds.turns(found, MOST_SEEDS):
        clock.now += real * expected[key]
        rounds.took(key, real * expected[key])
        found[key, seed] = outcome(key, seed, None if key == failing else 0.5)
        turns.append((key, seed))
    return turns


ABC = {"a": 10.0, "b": 10.0, "c": 20.0}


def test_finals_go_in_rounds_as_long_as_the_next_one_fits() -> None:
    rounds = [(key, seed) for seed in range(MOST_SEEDS) for key in ABC]
    assert played(ABC, 10_000) == rounds
    assert played(ABC, 99) == rounds[:7]  # 10 10 20, 10 10 20, 10; ten more would be over
    assert played(ABC, 100) == rounds[:8]
    assert played(ABC, 39) == rounds[:2], "not even a quicker one, out of its turn"


def test_what_is_recommended_is_trained_once_in_any_case() -> None:
    assert played(ABC, -5) == [("a", 0)]
    assert played(ABC, 9) == [("a", 0)]
    assert played(ABC, 9, kept={("a", 0): outcome("a", 0)}) == []


def test_trainings_that_took_longer_than_expected_count_as_measured() -> None:
    """Those of others too, before they were trained themselves."""
    assert played(ABC, 100, real=2.0) == [("a", 0), ("b", 0), ("c", 0), ("a", 1)]
    assert played(ABC, 79, real=2.0) == [("a", 0), ("b", 0)], "c will take 40 as well"
    assert len(played(ABC, 99, real=0.5)) == 14


def test_a_probe_whose_trial_was_over_in_a_moment_does_not_end_the_finals() -> None:
    """Seen: its final took four times what its trial had, so another design would too, and three minutes were left."""
    trials = {"best": 23.0, "probe": 3.2, "known": 24.0}
    expected = finish.final_seconds(trials, 1.4)
    assert expected["best"] == pytest.approx(32.2)
    assert 10 < expected["probe"] < 16
    rounds = Rounds(expected, 220, clock := Clock())
    turns = rounds.turns({}, MOST_SEEDS)
    assert [next(turns), next(turns)] == [("best", 0), ("probe", 0)]  # side by side
    clock.now += 16
    rounds.took("probe", 16)
    assert next(turns) == ("known", 0)


def test_time_is_left_to_the_export_which_loads_everything_again() -> None:
    assert played(ABC, 40) == [("a", 0), ("b", 0), ("c", 0)]
    assert played(ABC, 40, loading=1) == [("a", 0), ("b", 0)]
    assert played(ABC, 42, loading=1) == [("a", 0), ("b", 0)]
    assert played(ABC, 43, loading=1) == [("a", 0), ("b", 0), ("c", 0)], "once before and twice after"


def test_what_is_kept_or_failed_has_no_further_turn() -> None:
    first = {("a", 0): outcome("a", 0), ("b", 0): outcome("b", 0), ("c", 0): outcome("c", 0)}
    assert played(ABC, 25, kept=first) == [("a", 1), ("b", 1)]
    assert ("b", 1) not in played(ABC, 10_000, failing="b")
    assert ("c", 4) in played(ABC, 10_000, failing="b")


# The command


@pytest.fixture(scope="module")
def done(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The command run to its end on a folder with a broken file: output folder, what it said, what it warned of."""
    root = tmp_path_factory.mktemp("done")
    data = Path(shutil.copytree(plain, root / "my photos"))
    (data / "zero" / "torn.png").write_bytes((data / "zero" / "0.png").read_bytes()[:60])
    said, warned = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(warned), contextlib.redirect_stdout(said):
        assert run(data, root / "out") == 0
    return root / "out", said.getvalue(), warned.getvalue()


def test_it_exports_a_tuner_that_loads(done: tuple[Path, str, str]) -> None:
    out, _, _ = done
    model = load_tuned(out)
    assert model.classes == tuple(sorted(CLASSES))
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, len(CLASSES))
    table = tomllib.loads((out / "tuner.toml").read_text())
    assert table["metrics"]["parameters"] <= LIMIT
    assert table["metrics"]["test_seeds"] == SEEDS
    assert table["provenance"]["trained_on"] == "all training images"


def test_it_says_what_it_found_and_what_it_recommends(done: tuple[Path, str, str]) -> None:
    out, said, warned = done
    assert "43 images of 5 classes, 20% of each class for the test\n  5 classes: four, one, three, two, zero\n" in said
    assert said.index("5 classes: four") < said.index("Backbone glyph_vit")
    assert "note: 1 class of one image, 'four'" in said
    assert "at most 6,000 trainable parameters" in said
    study = Study.load("study", studies_dir=out)
    best = study.front()[-1]
    assert f"Recommended: {best.design}\n" in said
    assert f"parameters  {best.parameters:,}, " in said
    metrics = tomllib.loads((out / "tuner.toml").read_text())["metrics"]
    # Of 24, 12, 3, 2 and 1 images: classes count alike.
    assert "Designs are chosen by balanced accuracy, where each class counts as much as any other" in said
    mean, sd = (100 * metrics[f"test_balanced_accuracy_{which}"] for which in ("mean", "sd"))
    assert f"test        {mean:.2f}% ± {sd:.2f}" in said
    assert (
        f"validation  {100 * best.values['balanced_accuracy']:.2f}% balanced accuracy, on which it was chosen" in said
    )
    assert f"accuracy    {100 * metrics['test_accuracy_mean']:.2f}% on the same test images" in said
    assert re.search(r"recall      least of '\w+' \d+% of \d+ images?, .*_classes\.csv", said)
    assert re.search(r"calibration its probabilities are off by \d+\.\d points", said)
    assert study.objectives.names == ("balanced_accuracy", "parameters")
    assert study.spec.task.recipe.balance == "weights"
    assert "\n[1] " in said, "how many there will be is not known"
    # The linear probe is beside it, unless that is what is recommended.
    assert best.design is not None
    assert ("linear probe: 325 parameters, test " in said) == bool(best.design.placements)
    if best.design.placements:
        words = r"    recommended (is (better|worse) than|cannot be told apart from) linear-probe .*points.*95%: "
        assert re.search(words, said)
    assert f'load_tuned("{out}")' in said.replace("\n", "")
    assert "1 image that cannot be read was left out: zero/torn.png" in warned


def test_nothing_larger_than_allowed_was_trained(done: tuple[Path, str, str]) -> None:
    study = Study.load("study", studies_dir=done[0])
    trials = study.trials()
    assert max(t.parameters for t in trials if t.epochs) <= LIMIT
    assert {t.state for t in trials if t.parameters > LIMIT} == {"oversized"}
    assert sum(t.settled for t in trials) == search.MOST_DESIGNS


def test_classes_are_split_as_the_notes_say(done: tuple[Path, str, str]) -> None:
    """Trained on and compared on where that can be; the search sees no image that the finals test on."""
    out = done[0]
    splits = json.loads((out / "study" / "splits.json").read_text())
    seen = {part: Counter(name.split("/")[0] for name in splits[part]["names"]) for part in ("proxy", "validation")}
    assert set(seen["proxy"]) == set(CLASSES)
    assert set(seen["validation"]) == set(CLASSES) - {"four"}
    tested = {json.loads(p.read_text())["test_images"] for p in (out / "study" / "finals").glob("*.json")}
    assert sum(sum(c.values()) for c in seen.values()) + tested.pop() == sum(CLASSES.values())
    assert not tested


def test_test_images_are_looked_at_before_the_search(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What finals would refuse is refused before a study is written, and what they would name is named."""
    shutil.copytree(own, tmp_path / "split" / "train", ignore=shutil.ignore_patterns("empty", ".hidden", "cover.png"))
    for i in range(4):
        put(tmp_path / "split" / "test" / "zero" / f"{i}.png", picture(0, i))
    test = tmp_path / "split" / "test" / "zero"
    (test / "0.png").write_bytes(b"no image")
    assert run(tmp_path / "split", tmp_path / "out") == 2
    assert "at most 5% of the images cannot be read; got 1 of 4: test/zero/0.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    put(test / "0.png", picture(0, 30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "search", lambda *_, **__: False)
        assert run(tmp_path / "split", tmp_path / "out") == 130
    assert "note: 2 of 4 test images are among the training images too, test/zero/1.png = " in capsys.readouterr().out


def test_moved_images_are_found_where_they_are_now(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same --out it goes on; as long as they are where they were, another folder is refused."""
    out = tmp_path / "out"

    def stop(*_: object, **__: object) -> bool:
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "search", stop)
        assert run(own, out) == 130
        copy = Path(shutil.copytree(own, tmp_path / "elsewhere" / own.name))
        assert run(copy, out) == 2
        assert "its images lie in" in capsys.readouterr().err
        shutil.rmtree(own)
        assert run(copy, out) == 130
        assert "Goes on with the study" in capsys.readouterr().out
        renamed = copy.rename(copy.with_name("others"))
        assert run(renamed, out) == 2
        assert "Give the folder its name back" in capsys.readouterr().err
    assert Study.load("study", studies_dir=out).local["data_dir"] == str(copy.parent)


def test_it_is_not_done_twice(done: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = done[0]
    assert run(out.parent / "my photos", out) == 2
    assert "it holds no recommendation yet; got tuner.toml" in capsys.readouterr().err


class Told(Callback):
    """What a logger would write."""

    def __init__(self) -> None:
        self.studies, self.trials, self.finals = list[str](), set[int](), list[FinalRecord]()

    def on_start(self, started: Started) -> None:
        self.studies.append(started.study)
        self.trials |= {record.number for record in started.records if record.settled}

    def on_trial(self, trial: TrialRecord) -> None:
        self.trials.add(trial.number)

    def on_final(self, final: FinalRecord) -> None:
        self.finals.append(final)


def test_a_stopped_command_goes_on(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped in the search and in the finals; what was finished is not trained again, and other wishes are refused."""
    out = tmp_path / "out"

    def after_two(snapshot: Snapshot) -> None:
        if sum(r.settled for r in snapshot.records) >= 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "search", lambda prepared, **_: search.search(prepared, workers=0, on_change=after_two))
        assert run(own, out) == 130
    assert "The same command goes on" in capsys.readouterr().out
    first = {t.number: t.accuracy for t in Study.load("study", studies_dir=out).trials() if t.settled}
    assert first
    assert run(own, out, "--max-params", "5000") == 2
    assert "max_parameters: 5000 here, 6000 there" in capsys.readouterr().err
    told = Told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "loggers_of", lambda arguments: [told] if arguments.log else [])
        assert run(own, out, "--log", "mine") == 0
    assert "Goes on with the study" in capsys.readouterr().out
    after = {t.number: t.accuracy for t in Study.load("study", studies_dir=out).trials() if t.settled}
    assert {n: after[n] for n in first} == first
    assert (out / "tuner.toml").exists()
    assert set(told.studies) == {"out"}, "called as the folder: each one's study is a study"
    assert told.trials == set(after)
    assert told.finals


def test_chance_moves_a_mean_of_small_classes_more() -> None:
    """Of 100 images all alike, or of one class of 98 and two of one image each, of which nothing is known."""
    classes = {"a": 98, "b": 1, "c": 1}
    assert command._error(classes, 100, each=False) == pytest.approx(5)
    assert command._error(classes, 100, each=True) == pytest.approx(50 * (1 / 98 + 2) ** 0.5 / 3)


def test_classes_of_like_size_are_chosen_between_by_accuracy(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or by what was asked for, to which the same command keeps; a study that is there goes on with its own."""
    monkeypatch.setattr(command, "search", lambda *_, **__: False)
    for name in ("two", "three", "four"):
        shutil.rmtree(own / name)
    assert run(own, tmp_path / "a") == 130
    study = Study.load("study", studies_dir=tmp_path / "a")
    assert (study.objectives.names, study.spec.task.recipe.balance) == (("accuracy", "parameters"), "none")
    assert "chosen by" not in capsys.readouterr().out
    shutil.rmtree(own / "one")
    put(own / "one" / "0.png", picture(1, 0))
    put(own / "one" / "1.png", picture(1, 1))
    assert "classes are unbalanced" in notes(own)
    assert run(own, tmp_path / "b", "--metric", "macro_f1") == 130
    study = Study.load("study", studies_dir=tmp_path / "b")
    assert (study.objectives.names, study.spec.task.recipe.balance) == (("macro_f1", "parameters"), "weights")
    assert run(own, tmp_path / "b") == 130
    capsys.readouterr()
    assert run(own, tmp_path / "b", "--metric", "accuracy") == 2
    assert "objectives: " in capsys.readouterr().err


def test_a_user_s_readme_is_left_alone(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert run(plain, tmp_path) == 2
    assert "it holds no recommendation yet; got README.md" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_an_export_that_was_killed_is_written_again(done: tuple[Path, str, str], tmp_path: Path) -> None:
    out = Path(shutil.copytree(done[0], tmp_path / "out"))
    (out / "tuner.toml").unlink()
    (out / "tuner.safetensors").write_bytes(b"half")
    finals = {p.name: p.stat().st_mtime_ns for p in (out / "study" / "finals").glob("*.json")}
    assert run(done[0].parent / "my photos", out) == 0
    load_tuned(out)
    kept = {p.name: p.stat().st_mtime_ns for p in (out / "study" / "finals").glob("*.json")}
    assert {name: kept[name] for name in finals} == finals, "a final was trained again"


@pytest.mark.usefixtures("warm_processes")
def test_finals_on_a_sample_of_the_images(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all training images would not fit into the time; in processes, which get the decoded ones from a file."""
    real = prepare.plan_search
    monkeypatch.setattr(search, "MOST_DESIGNS", 2)
    monkeypatch.setattr(finish, "MOST_SEEDS", 1)
    monkeypatch.setattr(
        prepare, "plan_search", lambda *a, **k: replace(real(*a, **k), proxy=12, validation=6, limit=25)
    )
    assert run(own, tmp_path / "out", "--workers", "1") == 0
    study = Study.load("study", studies_dir=tmp_path / "out")
    assert study.spec.task.data.limit == 25
    splits = json.loads((study.folder / "splits.json").read_text())
    assert len(splits["proxy"]["names"]) + len(splits["validation"]["names"]) == 18


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-params", "300"), "--max-params: it is at least 325, the head of 5 classes on this backbone; got 300"),
        (("--metric", "balanced"), "--metric: it is one of accuracy, balanced_accuracy, macro_f1; got 'balanced'"),
        (("--max-params", "many"), "--max-params: a count is a number such as 50000, 50k or 1.2M; got 'many'"),
        (("--time", "soon"), "--time: a time is a number above 0 with s, m or h"),
        (("--workers", "-1"), "--workers: it is at least 1, or 0"),
        (("--image-size", "-3"), "--image-size: it is in pixels"),
        (("--device", "tpu"), "--device: device is one of"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(
    options: tuple[str, ...], said: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(plain, tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_many_broken_files_are_refused_by_name(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        (own / "one" / f"torn{i}.jpg").write_bytes(b"no image")
    assert run(own, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "at most 5% of the images cannot be read; got " in error
    assert "one/torn" in error
    assert not (tmp_path / "out").exists()


def test_without_network_or_weights_it_says_what_to_give(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--backbone", "vit_tiny_patch16_224", "--checkpoint", "nowhere.safetensors")
    assert run(plain, tmp_path / "out", *options) == 2
    assert "'nowhere.safetensors' in none of" in capsys.readouterr().err


def test_a_limit_that_nothing_fits_ends_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a space without anything small no proposal is trained, and the run still ends."""
    monkeypatch.setattr(budget, "HOPELESS", 5)
    slot = {"name": "a", "operation": "mlp", "tuner": "adapter", "form": "parallel", "rank": [8, 16], "blocks": "all"}
    task = Task.load("digits")
    study = Study.create(
        Space.from_dict({"name": "large", "slots": [slot]}, "space"),
        replace(task, recipe=replace(task.recipe, epochs=2, rungs=(), warmup_epochs=0.0)),
        studies_dir=tmp_path,
        max_parameters=1_000,
    )
    assert study.run(Budget(trials=3), workers=0)
    assert [t.state for t in study.trials()] == ["oversized"] * 5
    assert Study.load(study.name, studies_dir=tmp_path).spec.max_parameters == 1_000
