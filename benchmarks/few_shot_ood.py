"""How well do few-shot tuners tell unknown images from their own, and what do frozen features add?

    python benchmarks/few_shot_ood.py --data-dir DIR [--shots 4,16] [--seeds 3] [--designs ...] [--json FILE]

DIR holds cifar100-subset/{train,test}/<class>/*.png and vit_tiny_patch16_224.fp16.safetensors. Every fifth class by
name is known, 20 of 100: --shots of its training images are trained on, all of its test images are tested on. Test
images of the other classes are unknown, ten of each. Each design is trained at its usual learning rate for 30 epochs,
with random crops and mirror images; of several seeds the images trained on differ too. Designs are known methods by
name, `full` for full fine-tuning, or the folder of a recorded study's tuner.toml. One training at a time; each is added
to FILE (JSON lines) as soon as it is there, and not done again.

Printed are, as means over seeds: accuracy, and AUROC and FPR at 95% TPR by each score, of the tuned model by itself,
with USE and with DSGF (utuning_search/results/ood/scoring.py). ± is the standard deviation over seeds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.seeds import derive_seed
from utuning_search.data.loading import load_final_data
from utuning_search.data.outliers import load_outliers
from utuning_search.data.permit import TestPermit
from utuning_search.data.spec import DataSpec
from utuning_search.designs.design import Design
from utuning_search.designs.presets import parse_presets
from utuning_search.designs.rates import rate_factor
from utuning_search.results.exported import read_design
from utuning_search.results.ood.compare import Seen, Sets, compare, see
from utuning_search.results.ood.scoring import METHODS
from utuning_search.training.augmentation import suitable
from utuning_search.training.context import load_backbone
from utuning_search.training.loop import Examples, train
from utuning_search.training.ood_scores import SCORES, auroc, fpr_at_95
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime, resolve_precision
from utuning_search.training.task import Task
from utuning_search.training.trainer import settle

FULL = "full"
FOUND = "studies/2026-11-26_full_cifar100-subset-wide-2"
DESIGNS = f"linear-probe,{FULL},ssf,lora,u-tuning-dual,{FOUND}"
DATA, EVERY, UNKNOWN = "cifar100-subset", 5, 10  # unknown images a class
RECIPE = Recipe(epochs=30, batch_size=16, learning_rate=0.005, warmup_epochs=2.0)
FULL_RATE = 2e-4
BACKBONE = BackboneSpec("vit_tiny_patch16_224", "vit_tiny_patch16_224.fp16.safetensors", 96)


@dataclass(frozen=True)
class Setting:
    """What all designs of some shots and a seed have in common."""

    backbone: nn.Module
    runtime: Runtime
    sets: Sets
    frozen: Seen
    seed: int
    classes: int


def links(data: Path, folder: Path, unknown: int = UNKNOWN) -> None:
    """Known classes as an image folder, and so many test images of each of the others in a folder of their own."""
    names = sorted(path.name for path in (data / "train").iterdir())
    for i, name in enumerate(names):
        if i % EVERY == 0:
            for split in ("train", "test"):
                (folder / "known" / split).mkdir(parents=True, exist_ok=True)
                (folder / "known" / split / name).symlink_to((data / split / name).resolve())
        else:
            (folder / "unknown" / name).mkdir(parents=True)
            for path in sorted((data / "test" / name).iterdir())[:unknown]:
                (folder / "unknown" / name / path.name).symlink_to(path.resolve())


def setting(task: Task, folder: Path, backbone: nn.Module, preprocessing: Preprocessing, runtime: Runtime) -> Setting:
    data = load_final_data(task.data, preprocessing, folder, permit=TestPermit())
    unknown = load_outliers(str(folder / "unknown"), preprocessing, data.decoding).images
    whole = load_final_data(replace(task.data, shots=0), preprocessing, folder, permit=TestPermit()).train
    kept = set(data.train.names)
    rest = [i for i, name in enumerate(whole.names) if name not in kept]
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(task.data.seed))[: task.data.validation]
    scale = whole.images[torch.tensor(rest)[order]]
    sets = Sets(
        data.train.images,
        data.train.labels,
        data.test.images,
        data.test.labels,
        {"cifar": unknown},
        scale,
        preprocessing,
    )
    bare = TunedModel(backbone, Design(), len(data.classes)).eval()
    return Setting(backbone, runtime, sets, see(bare, sets), task.data.seed, len(data.classes))


def trained(design: Design | None, where: Setting) -> TunedModel:
    """A design, or where it is None the whole backbone, trained on the shots; on a backbone of its own."""
    seed = derive_seed(where.seed, "full" if design is None else design.key)
    backbone = deepcopy(where.backbone) if design is None else where.backbone
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = TunedModel(backbone, design or Design(), where.classes).train()
    parameters, rate = model.parameters_trained(), (design or Design()).learning_rate or RECIPE.learning_rate
    if design is None:
        backbone.requires_grad_(True)
        parameters, rate = [*model.parameters()], FULL_RATE
    else:
        model.backbone.eval()
    preprocessing = where.sets.preprocessing
    epochs = train(
        lambda images: model(preprocessing.normalise(images)),
        parameters,
        [Examples(where.sets.train, where.sets.train_labels)],
        RECIPE,
        learning_rate=rate,
        seed=seed,
        autocast=where.runtime.autocast(),
        augment=suitable(preprocessing.image_size, seed, mirrored=True),
    )
    for _ in epochs:
        pass
    return model.eval().requires_grad_(False)


def measured(name: str, design: Design | None, where: Setting) -> dict[str, Any]:
    """Seconds of a training, and accuracy and figures by method and score."""
    began = time.monotonic()
    model = trained(design, where)
    seconds = time.monotonic() - began
    count = sum(p.numel() for p in (model.parameters() if design is None else model.parameters_trained()))
    seed = derive_seed(where.seed, f"fusion {name}")
    answers = compare(see(model, where.sets), where.frozen, where.sets, RECIPE, seed, METHODS)
    figures = {
        method: {
            score: [f(own.known[score], own.unknown["cifar"][score]) for f in (auroc, fpr_at_95)] for score in SCORES
        }
        for method, own in answers.items()
    }
    accuracy = {method: own.accuracy for method, own in answers.items()}
    return {"parameters": count, "seconds": round(seconds, 1), "accuracy": accuracy, "figures": figures}


def designs_of(texts: Sequence[str], depth: int) -> dict[str, Design | None]:
    """By name: known methods at their usual rates, full fine-tuning as None, and tuners of recorded studies."""
    found: dict[str, Design | None] = {}
    for text in texts:
        if text == FULL:
            found[text] = None
        elif Path(text).is_dir():
            found["searched"] = read_design(Path(text))[0]
        else:
            ((label, asked),) = parse_presets(text).items()
            plain = Design(asked.placements).resolve(depth)
            rate = asked.learning_rate or RECIPE.learning_rate * rate_factor(plain, depth)
            found[label] = replace(plain, learning_rate=rate)
    return found


def trainings(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a training, from FILE where it was done before."""
    texts = arguments.designs.split(",")
    path: Path = arguments.json
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = {(row["shots"], row["seed"], row["design"]): row for row in done}
    data_dir = str(arguments.data_dir.resolve())
    with tempfile.TemporaryDirectory() as place:
        links(arguments.data_dir / DATA, Path(place))
        draft = Task("few", BACKBONE, DataSpec("imagefolder", "known", validation=200), RECIPE)
        backbone, preprocessing = load_backbone(draft, data_dir)
        runtime = Runtime("cpu", resolve_precision("auto", "cpu", BACKBONE.name))
        settle(backbone, "cpu")
        for shots in map(int, arguments.shots.split(",")):
            for seed in range(arguments.seeds):
                where = None
                for name, design in designs_of(texts, len(backbone.blocks)).items():
                    key = (shots, seed, name)
                    if key not in kept:
                        task = replace(draft, data=replace(draft.data, shots=shots, seed=seed))
                        where = where or setting(task, Path(place), backbone, preprocessing, runtime)
                        kept[key] = {"shots": shots, "seed": seed, "design": name, **measured(name, design, where)}
                        with path.open("a") as file:
                            file.write(json.dumps(kept[key]) + "\n")
                    yield kept[key]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, of shares in per cent."""
    more = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{more}"


def table(found: Sequence[dict[str, Any]], shots: int) -> Iterator[str]:
    """Markdown: a row a design and method; AUROC / FPR95 by score."""
    yield f"| design | parameters | method | accuracy % | {' | '.join(SCORES)} |"
    yield f"|{'---|' * (4 + len(SCORES))}"
    rows = [row for row in found if row["shots"] == shots]
    for name in dict.fromkeys(row["design"] for row in rows):
        runs = [row for row in rows if row["design"] == name]
        for method in METHODS:
            cells = [
                " / ".join(spread([row["figures"][method][score][i] for row in runs]) for i in (0, 1))
                for score in SCORES
            ]
            accuracy = spread([row["accuracy"][method] for row in runs])
            yield f"| {name} | {runs[0]['parameters']:,} | {method} | {accuracy} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--shots", default="4,16")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--designs", default=DESIGNS, help="with commas")
    parser.add_argument("--json", type=Path, default=Path("few-shot-ood.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for row in trainings(arguments):
        found.append(row)
        print(f"{row['shots']} shots, seed {row['seed']}, {row['design']}: {row['seconds']} s", flush=True)
    for shots in dict.fromkeys(row["shots"] for row in found):
        print(f"\n{shots} shots, {arguments.seeds} seeds; AUROC / FPR95 in %\n")
        print("\n".join(table(found, shots)))


if __name__ == "__main__":
    main()
