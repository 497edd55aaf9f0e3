"""A small few-shot study with finals, which costs seconds, for all that is measured of finals afterwards."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from utuning_search.results.confirm import confirm
from utuning_search.results.finals import Confirmation
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training import full as full_training

CLASSES, TRAIN, TEST = (0, 1, 3, 4, 7), 24, 12  # images a class
TESTED = TEST * len(CLASSES)
FEW = """
name = "few"
[backbone]
name = "glyph_vit"
[data]
source = "imagefolder"
root = "photos"
shots = 8
validation = 60
[training]
epochs = 6
batch_size = 20
learning_rate = 0.01
"""


@dataclass(frozen=True)
class Few:
    """A study, its folder's parent, that of its images, and what its confirmation found: finals of two seeds."""

    studies: Path
    data_dir: str
    study: Study
    found: Confirmation


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Few:
    """Tests may add files to the study's folder, and take away what they added; they change nothing else."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "few.toml").write_text(FEW)
    digits = load_digits()
    for label in CLASSES:
        for i, pixels in enumerate(digits.images[digits.target == label][: TRAIN + TEST]):
            path = folder / "photos" / ("train" if i < TRAIN else "test") / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15).astype("uint8")).save(path)
    study = Study.create(
        "smoke",
        str(folder / "few.toml"),
        name="few",
        studies_dir=folder / "studies",
        data_dir=str(folder),
        sampler="random",
        seed=3,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_training, "MOST_ROUNDS", 2)
        assert study.run(Budget(trials=3), workers=0)
        found = confirm(study, top=1, seeds=2, presets=["ssf"], workers=0)
    return Few(folder / "studies", str(folder), study, found)
