"""Scores, AUROC, FPR at 95% TPR and their intervals are what their papers and scikit-learn say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.results.ood.compare import Seen, Sets, compare
from utuning_search.results.ood.figures import figures
from utuning_search.results.ood.intervals import curves, draws, interval
from utuning_search.results.ood.scoring import METHODS, Outputs, bank, ensemble, fused, fusion_head, scores
from utuning_search.training.ood_scores import SCORES, auroc, fpr_at_95, nearest, neighbours, of_logits
from utuning_search.training.recipe import Recipe


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_of_logits() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 1.0], [20.0, 0.0], [21.0, 0.0]])
    assert of_logits("msp", logits)[0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert of_logits("msp", logits)[3] > of_logits("msp", logits)[2], "in single precision both are 1"
    assert of_logits("energy", logits)[1] == pytest.approx(1 + np.log(2))
    assert of_logits("max_logit", logits).tolist() == [2, 1, 20, 21]


def test_nearest_features_are_those_of_sun_et_al() -> None:
    """The same order as minus the distance to the k-th nearest of features of length 1."""
    features, known = normal(20, 5), normal(30, 5, seed=1)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (features, known)]
    distances = torch.cdist(*unit).sort(dim=1).values[:, 2]
    found = nearest(features, known, 3)
    assert found == pytest.approx((1 - distances**2 / 2).numpy(), abs=1e-5)
    assert nearest(known, known, 1) == pytest.approx(np.ones(30), abs=1e-5)
    assert nearest(known, known, 1, own=True).max() < 0.999
    assert nearest(features, known[:2], 10) == pytest.approx(nearest(features, known[:2], 2))


@pytest.mark.parametrize(("counts", "wanted"), [((4, 4), 4), ((50, 30), 10), ((1, 9), 1), ((0, 5), 5)])
def test_as_many_neighbours_as_a_class_has(counts: tuple[int, ...], wanted: int) -> None:
    assert neighbours(torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))) == wanted


def test_figures_are_scikit_learn_s() -> None:
    known, unknown = normal(200).double().numpy() + 1, normal(100, seed=1).double().numpy()
    labels, both = np.repeat([1, 0], (200, 100)), np.concatenate([known, unknown])
    assert auroc(known, unknown) == roc_auc_score(labels, both)
    threshold = np.sort(known)[10]  # the first ten of 200 are below it
    assert fpr_at_95(known, unknown) == (unknown >= threshold).mean()
    assert auroc(unknown, known) == pytest.approx(1 - auroc(known, unknown))


def test_bootstrap_samples_are_figures_of_the_images_drawn() -> None:
    """With ties too: each draw gives what scikit-learn says of images repeated so often."""
    known, unknown = (normal(n, seed=n).mul(2).round().double().numpy() + n // 60 for n in (60, 40))
    assert set(known) & set(unknown)
    drawn = draws(60, 40, count=7)
    areas, rates = curves(known, unknown, drawn)
    for i, (a, b) in enumerate(zip(drawn.known, drawn.unknown, strict=True)):
        one, other = np.repeat(known, a), np.repeat(unknown, b)
        assert areas[i] == pytest.approx(auroc(one, other))
        assert rates[i] == pytest.approx(fpr_at_95(one, other))
    labels = np.repeat([1, 0], (60, 40))
    weighted = roc_curve(labels, np.concatenate([known, unknown]), sample_weight=np.concatenate([a, b]))
    assert areas[-1] == pytest.approx(np.trapezoid(weighted[1], weighted[0]))


def test_intervals_hold_the_figure_and_shrink_with_images() -> None:
    widths = []
    for n in (50, 800):
        known, unknown = normal(n).double().numpy() + 1, normal(n, seed=1).double().numpy()
        found = figures([(known, unknown), (known + 0.1, unknown)], draws(n, n))
        for name in ("auroc", "fpr95"):
            assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
        assert found["auroc"] == pytest.approx((auroc(known, unknown) + auroc(known + 0.1, unknown)) / 2)
        widths.append(found["auroc_high"] - found["auroc_low"])
    assert widths[1] < widths[0] / 2
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


def blobs(seed: int, count: int = 40) -> tuple[Tensor, Tensor]:
    """Points around three centres, and which; told apart by the first two of four numbers."""
    labels = torch.arange(3).repeat_interleave(count)
    centres = torch.tensor([[4.0, 0, 0, 0], [0, 4, 0, 0], [-4, -4, 0, 0]])
    return centres[labels] + normal(3 * count, 4, seed=seed), labels


def test_use_adds_what_each_part_knows() -> None:
    """Neither scale nor place of a part matters; an image that only the frozen features find odd is found."""
    tuned = {"msp": np.array([0.9, 0.9, 0.2])}
    matched = np.array([0.8, 0.1, 0.8])
    scale, scale_matched = {"msp": np.array([0.7, 0.9])}, np.array([0.6, 0.8])
    found = ensemble(tuned, matched, scale, scale_matched)["msp"]
    assert found == pytest.approx([1 + 1, 1 - 6, -6 + 1])
    again = ensemble({"msp": 5 * tuned["msp"] - 3}, 7 * matched, {"msp": 5 * scale["msp"] - 3}, 7 * scale_matched)
    assert again["msp"] == pytest.approx(found)


def test_dsgf_sees_what_either_kind_of_features_sees() -> None:
    """Frozen features tell classes apart, tuned ones are noise: the head on both does too; by seed alone."""
    points, labels = blobs(0)
    frozen, tuned = Outputs(points, points), Outputs(normal(120, 4, seed=5), torch.zeros(120, 3))
    recipe = Recipe(epochs=2, learning_rate=0.05)
    heads = [fusion_head(frozen, tuned, labels, recipe, seed) for seed in (1, 1, 2)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    fresh, _ = blobs(1)
    both = fused(Outputs(fresh, fresh), Outputs(normal(120, 4, seed=6), torch.zeros(120, 3)), heads[0])
    assert both.features.shape == (120, 8)
    assert (both.logits.argmax(dim=1) == labels).float().mean() > 0.9


def test_each_method_sees_each_set_with_features_of_its_own() -> None:
    """The tuned model knows nothing of classes, the frozen backbone does; unknown images are odd to the latter."""
    (trained, labels), (fresh, _), (odd, _) = blobs(0), blobs(1), blobs(2)
    odd = odd + torch.tensor([0.0, 0, 8, 8])
    images = {name: torch.zeros(120, 1, 8, 8, dtype=torch.uint8) for name in ("train", "test", "odd")}
    ways = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")
    sets = Sets(images["train"], labels, images["test"], labels, {"odd": images["odd"]}, None, ways)

    def seen(one: Tensor, other: Tensor, unknown: Tensor) -> Seen:
        train, test, far = (Outputs(x, torch.zeros(120, 3)) for x in (one, other, unknown))
        return Seen(train, test, {"odd": far}, None)

    noise = [normal(120, 4, seed=s) for s in (5, 6, 7)]
    found = compare(seen(*noise), seen(trained, fresh, odd), sets, Recipe(epochs=2, learning_rate=0.05), 0, METHODS)
    assert found["dsgf"].accuracy > 0.9 > 0.5 > found["tuned"].accuracy == found["use"].accuracy
    areas = {name: auroc(own.known["knn"], own.unknown["odd"]["knn"]) for name, own in found.items()}
    assert areas["tuned"] < 0.7 < areas["use"]
    assert areas["dsgf"] > 0.9
    scaled = replace(seen(*noise), scale=Outputs(3 * noise[1], torch.ones(120, 3)))
    bare = replace(seen(trained, fresh, odd), scale=Outputs(fresh, torch.zeros(120, 3)))
    other = compare(scaled, bare, sets, Recipe(), 0, ("use",))["use"]
    assert not np.allclose(other.known["knn"], found["use"].known["knn"]), "these images set the scale"


def test_every_score_tells_far_points_from_known_ones() -> None:
    points, labels = blobs(0)
    logits = -torch.cdist(points, torch.stack([points[labels == c].mean(0) for c in range(3)]))
    known = bank(Outputs(points, logits), labels)
    odd = normal(60, 4, seed=9) * 0.3 + torch.tensor([0.0, 0, 6, 6])
    centres = torch.stack([points[labels == c].mean(0) for c in range(3)])
    unknown = scores(Outputs(odd, -torch.cdist(odd, centres)), known)
    own = scores(Outputs(points, logits), known, own=True)
    assert list(own) == list(SCORES)
    assert {name: auroc(own[name], unknown[name]) > 0.9 for name in SCORES} == dict.fromkeys(SCORES, True)
