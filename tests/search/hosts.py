"""Machines that share a study: folders of their own, in which commands run, in this process or in another."""

import contextlib
import io
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utuning_search.cli.main import main

from ..leash import end_with_parent

NAME = "many"
NEW = ("run", "--space=mini.toml", "--task=tiny.toml", f"--name={NAME}", "--sampler=random", "--no-pruning")
QUIET = ("--workers=0", "-q")
WORKER = ("worker", NAME, *QUIET)
TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "{source}"
proxy = {proxy}
validation = {validation}
[training]
epochs = 2
batch_size = 50
rungs = [1]
"""
SPACE = """
name = "mini"
presets = ["linear-probe", "adapter"]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter", "norm"]
form = ["sequential", "parallel"]
rank = [1, 10]
blocks = ["all", "last 1"]
"""


class Host:
    """A machine: a folder with a space, a task and images, in which commands run, in this process or in another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "mini.toml").write_text(SPACE)
        (folder / "tiny.toml").write_text(TASK.format(source="digits", proxy=100, validation=60))
        photos = TASK.format(source='imagefolder"\nroot = "photos', proxy=8, validation=4)
        (folder / "photos.toml").write_text(photos)
        draw = np.random.default_rng(0)
        for label in "ab":
            for i in range(10):
                path = folder / "photos" / "train" / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)

    def here(self, *arguments: str) -> tuple[int, str, str]:
        """A command's exit code, and what it wrote."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def start(self, *arguments: str) -> Any:
        """A command in a process of its own, forked off this one, which has imported torch."""
        process = multiprocessing.get_context("fork").Process(target=in_process, args=(self.folder, arguments))
        process.start()
        return process

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()


def in_process(folder: Path, arguments: tuple[str, ...]) -> None:
    end_with_parent()
    os.chdir(folder)
    with (folder / "output.txt").open("w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        sys.exit(main(list(arguments)))


def refused(said: tuple[int, str, str]) -> str:
    code, out, err = said
    assert (code, out) == (2, ""), said
    assert len(err.splitlines()) == 1, err
    return err
