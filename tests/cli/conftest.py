"""Working directories for commands: with files to start from, or after a study."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
from PIL import Image

from .commands import FOLDER_TASK, INLINE, PROMPT, SLOT, TASK, TRIALS, succeeded


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command is tried in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a task, a space, and an image folder for the other task."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPTUNA_STORAGE", "UTUNING_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {"tiny": TASK, "folder": FOLDER_TASK, "own": SLOT, "prompt": PROMPT}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    draw = np.random.default_rng(0)
    for label in "ab":
        for i in range(10):
            path = tmp_path / "photos" / "train" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A working directory after `run`, and what that said; tests copy it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TASK)
    with contextlib.chdir(folder):
        out = succeeded("run", "--space", "smoke", "--task", "tiny.toml", "--trials", str(TRIALS), *INLINE)
    return folder, out


@pytest.fixture
def studied(finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that working directory, entered; its study is `smoke-tiny`."""
    folder = Path(shutil.copytree(finished[0], tmp_path / "work"))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return folder


@pytest.fixture
def weights(place: Path) -> Path:
    """A checkpoint of a small timm model at 32 pixels."""
    model = timm.create_model("test_vit", pretrained=False, num_classes=3, img_size=32)
    safetensors.torch.save_file(model.state_dict(), place / "w.safetensors")
    return place
