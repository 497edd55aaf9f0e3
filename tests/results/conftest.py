"""A small few-shot study with finals, which costs seconds, for all that is measured of finals afterwards."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from utuning_search.results.confirm import confirm
from utuning_search.results.finals import Confirmation
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training import full as full_training

FEW = """
name = "few"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
shots = 8
validation = 60
[training]
epochs = 6
batch_size = 20
learning_rate = 0.01
"""


@dataclass(frozen=True)
class Few:
    """A study, its folder's parent, and what its confirmation found: two finals of two seeds."""

    studies: Path
    study: Study
    found: Confirmation


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Few:
    """Tests may add files to the study's folder, and take away what they added; they change nothing else."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "few.toml").write_text(FEW)
    study = Study.create(
        "smoke", str(folder / "few.toml"), name="few", studies_dir=folder / "studies", sampler="random", seed=3
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_training, "MOST_ROUNDS", 2)
        assert study.run(Budget(trials=3), workers=0)
        found = confirm(study, top=1, seeds=2, presets=["ssf"], workers=0)
    return Few(folder / "studies", study, found)
