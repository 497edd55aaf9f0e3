"""Finals in trouble: corrupted test images, flipped bits in the tuner, a table, a report, a command."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from utuning_search.cli.confirm_options import options_of
from utuning_search.cli.parser import make_parser
from utuning_search.common.errors import StudyError
from utuning_search.data.corruptions import CORRUPTIONS, SEVERITIES
from utuning_search.results.ood.table import read_ood
from utuning_search.results.outcomes import WEIGHTS, outcome_file
from utuning_search.results.report.write import report
from utuning_search.results.resilience.bit_flips import BITS, RATES, flipped
from utuning_search.results.resilience.measure import DRAWS, Labelled, _flips, perturb
from utuning_search.results.resilience.table import BIT_FLIPS, Hardship, read_resilience, write_resilience
from utuning_search.results.trained import final_model
from utuning_search.search.layout import IMAGES
from utuning_search.training.context import load_search

from ..cli.commands import command
from .conftest import TESTED, Few

Rows = dict[tuple[str, str, float], Hardship]


@pytest.fixture(scope="module")
def perturbed(few: Few) -> Rows:
    return {(r.key, r.trouble, r.level): r for r in perturb(few.study, few.found)}


@pytest.fixture
def tabled(few: Few, perturbed: Rows) -> Iterator[Few]:
    """The study with its resilience.csv."""
    path = write_resilience(few.study.folder, perturbed.values())
    yield few
    path.unlink(missing_ok=True)


# Bits


def test_about_as_many_bits_as_asked_are_flipped_and_no_others() -> None:
    tensors = {"a": torch.randn(100, 40), "b": torch.zeros(500)}
    before = {name: t.clone() for name, t in tensors.items()}
    counts = []
    for seed in range(20):
        found = flipped(tensors, 0.01, seed)
        assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in tensors.items()}
        changed = [found[n].numpy().view(np.uint32) ^ tensors[n].numpy().view(np.uint32) for n in tensors]
        counts.append(sum(int(np.bitwise_count(c).sum()) for c in changed))
    bits = 4500 * BITS
    assert np.mean(counts) == pytest.approx(0.01 * bits, rel=0.05)
    assert len(set(counts)) > 10, "their number is drawn too"
    assert all(torch.equal(tensors[n], before[n]) for n in tensors)


def test_flips_are_a_function_of_the_seed_and_end_at_none_and_all() -> None:
    tensors = {"a": torch.ones(300)}
    one, same, other = (flipped(tensors, 0.01, seed)["a"].numpy().view(np.uint32) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert torch.equal(flipped(tensors, 0.0, 0)["a"], tensors["a"])
    assert (flipped(tensors, 1.0, 0)["a"].numpy().view(np.uint32) == ~tensors["a"].numpy().view(np.uint32)).all()
    with pytest.raises(ValueError, match=r"float32 wanted, got torch\.float16"):
        flipped({"a": torch.ones(3, dtype=torch.float16)}, 0.1, 0)


# Finals


def test_each_final_meets_each_trouble(few: Few, perturbed: Rows) -> None:
    wanted = [(name, float(severity)) for name in CORRUPTIONS for severity in SEVERITIES]
    wanted += [(BIT_FLIPS, rate) for rate in RATES]
    for final in few.found.finals:
        own = [row for row in perturbed.values() if row.key == final.key]
        assert [(row.trouble, row.level) for row in own] == wanted
        assert [row.clean for row in own] == [pytest.approx(final.outcomes[0].accuracy)] * len(own)
        assert {(row.draws, row.test_images) for row in own} == {(1, TESTED), (DRAWS, TESTED)}
        assert all(row.worst <= row.accuracy + 1e-9 for row in own)
        noise = [perturbed[final.key, "gaussian_noise", severity].accuracy for severity in SEVERITIES]
        assert own[0].clean > noise[2]
    assert not list((few.study.folder / "finals").glob(f"{IMAGES}*"))


def test_flips_are_of_the_kept_weights_each_time(few: Few) -> None:
    """By hand, on validation images: each draw starts from what was trained, at the last rate too."""
    final = few.found.finals[0]
    context = load_search(few.study.spec.task, few.data_dir)
    model = final_model(few.study, final.finalist.design, final.outcomes[0], context.backbone)
    assert model is not None
    whole = model.tuner_state_dict()
    tested = Labelled(context.data.validation.images, context.data.validation.labels, context.preprocessing)
    rates = [list(_flips(few.study, final, model, rate, tested)) for rate in (0.02, 0.0)]
    assert rates[0] != rates[1] == [tested.accuracy(model)] * DRAWS
    assert all(torch.equal(t, whole[name]) for name, t in model.tuner_state_dict().items())


def test_troubles_are_a_function_of_the_study_and_leave_models_whole(few: Few, perturbed: Rows) -> None:
    """Neither the order nor the number of finals decides; what was flipped is put back before the next draw."""
    one = replace(few.found, finals=few.found.finals[1:])
    assert all(perturbed[row.key, row.trouble, row.level] == row for row in perturb(few.study, one))


def test_finals_without_weights_are_left_out(few: Few, tmp_path: Path) -> None:
    study = few.study.load("few", studies_dir=shutil.copytree(few.studies, tmp_path / "studies"))
    for final in few.found.finals:
        first = final.outcomes[0]
        outcome_file(study.folder, first.key, first.epochs, first.augmented, first.seed).with_suffix(WEIGHTS).unlink()
    with pytest.raises(StudyError, match="some final has kept its weights; got none"):
        perturb(study, few.found)


# What is said of them


def test_the_table_is_read_as_it_was_written(tabled: Few, perturbed: Rows) -> None:
    path = tabled.study.folder / "resilience.csv"
    assert read_resilience(tabled.study.folder) == tuple(perturbed.values())
    head, row, *_ = path.read_text().splitlines(keepends=True)
    for damaged in ("key\n", head + row.replace(",60\n", ",x\n"), head + row.replace(",0.", ",7.")):
        path.write_text(damaged)
        with pytest.raises(StudyError, match=r"it is a table of confirm --corruptions; got .* Remove it"):
            read_resilience(tabled.study.folder)


def test_the_report_has_it(tabled: Few, perturbed: Rows) -> None:
    page = report(tabled.study)
    for row in perturbed.values():
        assert f">{100 * row.clean:.1f}<" in page
    assert "<h2>In trouble</h2>" in page
    assert "bit flips 1e-06, 1e-05, 1e-04" in page


def test_command_says_it_and_finals_repeat_it(few: Few) -> None:
    place = ("--studies-dir", str(few.studies))
    options = ("--top", "1", "--seeds", "2", "--preset", "ssf", "--workers", "0", "--ood", "letters")
    told = command("confirm", "few", "--corruptions", "--format", "json", "-q", *options, *place)
    assert (told.code, told.err) == (0, "")
    rows = read_resilience(few.study.folder)
    assert json.loads(told.out)["resilience"] == [asdict(row) for row in rows]
    assert json.loads(told.out)["ood"] == [asdict(row) for row in read_ood(few.study.folder)]
    said = command("finals", "few", *place).out
    assert "In trouble: accuracy in % on 60 corrupted test images" in " ".join(said.split())
    for name in ("resilience.csv", "ood.csv"):
        (few.study.folder / name).unlink()
    given = make_parser().parse_args(["confirm", "few", "--corruptions"])
    assert options_of(given) == " --corruptions"
