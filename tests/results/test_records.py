"""Every recorded study is what it says: its spec loads, its front is its trials', its tuner lies in its space."""

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import timm

from utuning_search.backbones import loading
from utuning_search.backbones.embedded.architecture import glyph_vit
from utuning_search.backbones.registry import adapter_of
from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.designs.presets import parse_presets
from utuning_search.results.exports.card import TRAINED_ON
from utuning_search.results.outcomes import EXPORTED_SEED
from utuning_search.results.tables import COLUMNS, FINALS_CSV, FRONT_CSV, TRIALS_CSV, read_table
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.pareto import front
from utuning_search.search.spec import StudySpec
from utuning_search.training.context import load_search
from utuning_search.tuners import BackboneShape

from .recorded import RECORDED

FILES = ("README.md", "spec.toml", "tuner.toml", TRIALS_CSV, FRONT_CSV, "front.png")
# Of the backbones that recorded studies name; weights that are not ours are not needed for sizes.
SHAPES = {
    "vit_tiny_patch16_224": BackboneShape(
        dim=192, depth=12, num_heads=3, head_dim=64, hidden=768, hidden_in=768, parameters=0
    )
}

recorded = pytest.mark.parametrize("folder", RECORDED, ids=lambda p: p.name)


def spec_of(folder: Path) -> StudySpec:
    return StudySpec.from_dict(tomllib.loads((folder / "spec.toml").read_text(encoding="utf-8")))


def tuner_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "tuner.toml").read_text(encoding="utf-8"))


def shape_of(spec: StudySpec) -> BackboneShape:
    if spec.task.backbone.name == loading.GLYPH_VIT:
        return adapter_of(glyph_vit()).shape
    known = SHAPES.get(spec.task.backbone.name)
    return known or adapter_of(loading.without_weights(spec.task.backbone.name, spec.task.backbone.image_size)).shape


def test_there_are_recorded_studies() -> None:
    assert RECORDED


@recorded
def test_nothing_is_missing(folder: Path) -> None:
    assert [name for name in FILES if not (folder / name).is_file()] == []
    assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) >= 3


@recorded
def test_name_is_date_space_task(folder: Path) -> None:
    date, rest = folder.name.split("_", 1)
    assert len(date) == 10
    spec = spec_of(folder)
    name, _, number = rest.rpartition("-")
    # A second record of one day has a number: records are added, never replaced.
    # Known methods may be what it is about, whatever space stands beside them.
    what = {spec.space.name, "presets"} if spec.presets else {spec.space.name}
    assert {f"{w}_{spec.task.name}" for w in what} & {rest, name if number.isdigit() else rest}


@recorded
def test_spec_survives_its_file(folder: Path) -> None:
    spec = spec_of(folder)
    again = StudySpec.from_dict(tomllib.loads(spec.to_toml()))
    assert again == spec
    assert again.digest == spec.digest


@recorded
def test_spec_is_the_one_its_tuner_was_found_under(folder: Path) -> None:
    spec, table = spec_of(folder), tuner_of(folder)
    assert table["provenance"]["study_digest"] == spec.digest
    assert table["provenance"]["seed"] == spec.seed
    assert table["provenance"]["precision"] == spec.precision
    assert table["provenance"]["space"] == spec.space.name
    backbone = {k: v for k, v in table["backbone"].items() if k != "digest"}
    assert {**table["task"], "backbone": backbone} == spec.task.to_dict()


@recorded
def test_tuner_lies_in_its_space_or_is_a_known_method_tried_beside_it(folder: Path) -> None:
    spec = spec_of(folder)
    design = Design.from_dict(tuner_of(folder)["design"])
    depth = shape_of(spec).depth
    assert design.resolve(depth) == design
    beside = spec.preset_designs(depth) if spec.presets else {}
    assert spec.space.contains(design, depth) or design.key in {d.key for d in beside.values()}


@recorded
def test_presets_of_the_space_were_tried_first(folder: Path) -> None:
    """Under the names they had; what a name stands for may be put right in a later version, a record may not."""
    spec, trials = spec_of(folder), read_table(folder / TRIALS_CSV)
    trials = trials[trials["state"] != "interrupted"]  # given back, and begun again
    carried = spec.space.on(shape_of(spec)).presets
    count = len(carried)
    assert list(trials["preset"][:count]) == [p.name for p in carried]
    assert set(trials["state"][:count]) == {"complete"}


@recorded
def test_sizes_of_presets_are_their_closed_forms(folder: Path) -> None:
    spec, trials = spec_of(folder), read_table(folder / TRIALS_CSV)
    shape, classes = shape_of(spec), len(tuner_of(folder)["classes"])
    sizes = {
        d.key: d.num_parameters(shape, classes)
        for d in spec.space.preset_designs(shape.depth, spec.task.recipe.learning_rate).values()
    }
    rows = trials[trials["key"].isin(sizes)]
    assert [sizes[key] for key in rows["key"]] == list(rows["parameters"])


@recorded
def test_tuner_is_a_trial_of_its_size_and_accuracy(folder: Path) -> None:
    spec, table, trials = spec_of(folder), tuner_of(folder), read_table(folder / TRIALS_CSV)
    design, shape = Design.from_dict(table["design"]), shape_of(spec)
    (row,) = trials[trials["trial"] == table["provenance"]["trial"]].to_dict("records")
    assert row["key"] == design.key == table["provenance"]["key"]
    assert row["parameters"] == design.num_parameters(shape, len(table["classes"])) == table["metrics"]["parameters"]
    assert table["metrics"]["tuner_parameters"] == design.num_parameters(shape)
    assert row["accuracy"] == table["metrics"]["validation_accuracy"]
    assert row["state"] == "complete"
    confirmed = table["provenance"].get("trained_on") == TRAINED_ON[True]
    stream = f"final {design.key} {EXPORTED_SEED}" if confirmed else f"training {design.key}"
    assert table["provenance"]["training_seed"] == derive_seed(spec.seed, stream)
    assert bool(table["provenance"]["cite"]) == bool(design.placements)
    assert {"python", "torch", "timm", "optuna", "utuning-search"} <= set(table["provenance"]["versions"])


@recorded
def test_front_is_the_front_of_its_trials(folder: Path) -> None:
    trials, stored = read_table(folder / TRIALS_CSV), read_table(folder / FRONT_CSV)
    complete = trials[trials["state"] == "complete"].reset_index(drop=True)
    gains = USUAL.gains(complete[["accuracy", "parameters"]].to_dict("records"))
    rows = complete.iloc[front(gains)].reset_index(drop=True)
    stored = stored.drop(columns=[c for c in stored if c not in rows])  # what is said of each, besides its figures
    pd.testing.assert_frame_equal(rows, stored, check_dtype=False)
    # A tuner is of the front, or the test images said that another confirmed trial is the better one.
    finals = pd.read_csv(folder / FINALS_CSV)["trial"] if (folder / FINALS_CSV).exists() else stored["trial"]
    assert tuner_of(folder)["provenance"]["trial"] in {*stored["trial"], *finals}


@recorded
def test_no_design_was_trained_twice(folder: Path) -> None:
    trials = read_table(folder / TRIALS_CSV)
    settled = trials[trials["state"].isin(["complete", "pruned", "failed"])]
    trained = settled[settled["reused"].isna()]
    assert trained["key"].is_unique
    for row in settled[settled["reused"].notna()].to_dict("records"):
        (first,) = trained[trained["trial"] == row["reused"]].to_dict("records")
        for column in ("key", "design", "state", "parameters"):
            assert row[column] == first[column]
        assert row["epochs"] == 0
        assert first["trial"] < row["trial"]


@recorded
def test_trials_are_a_whole_history(folder: Path) -> None:
    spec, trials = spec_of(folder), read_table(folder / TRIALS_CSV)
    assert list(trials.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert list(trials["trial"]) == list(range(len(trials)))
    recipe = spec.task.recipe
    measured = [f"accuracy_epoch_{e}" for e in (*recipe.rungs, recipe.epochs)]
    assert list(trials.columns[len(COLUMNS) :]) == measured
    complete = trials[trials["state"] == "complete"]
    assert complete[measured].notna().all(axis=None)
    # The first records with LoRA experts read their rungs with dropout on; final accuracies never had it.
    plain = complete[~complete["design"].str.contains("LoRA experts")]
    # Accuracies are measured in fp32, rungs in the precision of the training.
    off = (plain["accuracy"] - plain[measured[-1]]).abs()
    assert off.max() <= (0.005 if spec.precision == "bf16" else 2 / spec.task.data.validation)
    assert set(complete[complete["reused"].isna()]["epochs"]) == {recipe.epochs}
    hits = complete["accuracy"] * spec.task.data.validation
    assert (hits - hits.round()).abs().max() < 1e-6
    pruned = trials[(trials["state"] == "pruned") & trials["reused"].isna()]
    assert set(pruned["epochs"]) <= set(recipe.rungs)
    assert not set(pruned["preset"]) - {""}


@recorded
def test_readme_counts_what_the_tables_count(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    trials, stored = read_table(folder / TRIALS_CSV), read_table(folder / FRONT_CSV)
    states, spec = trials["state"].value_counts(), spec_of(folder)
    wanted = [f"{trials['epochs'].sum()} epochs", f"front has {len(stored)} designs", f"seed {spec.seed}"]
    wanted += [f"{count} {state}" for state, count in states.items()]
    for words in wanted:
        assert words in " ".join(text.split()).replace("complete and ", "complete, "), words


@recorded
def test_finals_are_of_its_trials_and_judged_as_they_stand(folder: Path) -> None:
    if not (folder / FINALS_CSV).exists():
        return
    finals, trials = pd.read_csv(folder / FINALS_CSV), read_table(folder / TRIALS_CSV)
    assert finals["key"].is_unique
    assert finals["parameters"].is_monotonic_increasing
    by_key = trials[trials["state"] == "complete"].drop_duplicates("key").set_index("key")
    on_front = set(read_table(folder / FRONT_CSV)["key"])
    for row in finals.to_dict("records"):
        if row["key"] in by_key.index:
            trial = by_key.loc[row["key"]]
            assert (trial["parameters"], trial["accuracy"]) == (row["parameters"], row["validation"])
        else:  # a known method at a rate that no trial has, which was asked for
            (asked,) = parse_presets(row["preset"]).values()
            design = Design(asked.placements, asked.learning_rate).resolve(shape_of(spec_of(folder)).depth)
            sizes = design.num_parameters(shape_of(spec_of(folder)), len(tuner_of(folder)["classes"]))
            assert (design.key, sizes) == (row["key"], row["parameters"])
            assert pd.isna(row["trial"])
            assert pd.isna(row["validation"])
        assert row["front"] == (row["key"] in on_front)
        assert row["test_se"] == pytest.approx(row["test_sd"] / row["seeds"] ** 0.5)
        if "beaten_by" in row:
            difference = row["test_mean"] - row["validation"]
            assert row["test_minus_validation"] == pytest.approx(difference, nan_ok=True)
            assert row["survives"] == pd.isna(row["beaten_by"])
            assert row["test_low"] <= row["test_mean"] <= row["test_high"]
            continue
        # Of before predictions were kept: one standard error decided.
        assert row["luck"] == pytest.approx(row["validation"] - row["test_mean"])
        smaller = finals[finals["parameters"] <= row["parameters"]]
        error = (smaller["test_se"] ** 2 + row["test_se"] ** 2) ** 0.5
        assert row["survives"] == (not (smaller["test_mean"] - row["test_mean"] > error).any())
    assert "finals.png" in {p.name for p in folder.iterdir()}
    assert f"{len(finals)} designs were confirmed" in " ".join((folder / "README.md").read_text().split())


@recorded
def test_embedded_data_are_the_ones_it_ran_on(folder: Path, tmp_path: Path) -> None:
    spec = spec_of(folder)
    if spec.task.data.source != "digits":
        return
    backbone = spec.task.backbone
    if backbone.checkpoint:  # of random weights, on which no image hangs
        model = timm.create_model(backbone.name, pretrained=False, num_classes=0)
        safetensors.torch.save_file(model.state_dict(), tmp_path / backbone.checkpoint)
    assert load_search(spec.task, tmp_path).data.digest == spec.data
