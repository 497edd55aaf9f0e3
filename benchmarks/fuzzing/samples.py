"""Valid files of every kind that users hand over: a small study that ran, its finals and export, pictures, checkpoints.

All of them are made here, by the package's own commands where it writes them.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from PIL import Image

from utuning_search.cli.main import main
from utuning_search.testing.models import DEPTH, DIM, HEADS, tiny_vit

Array = npt.NDArray[np.float32]
NAME = "s"
TRIALS = 6
TASK = """
name = "fuzz"
description = "a task, in short"
[backbone]
name = "glyph_vit"
image_size = 8
checkpoint = ""
[data]
source = "digits"
proxy = 20
validation = 20
seed = 0
views = 2
limit = 200
[training]
epochs = 2
batch_size = 10
learning_rate = 0.01
weight_decay = 0.0001
warmup_epochs = 1
rungs = [1]
"""
FOLDER = 'source = "imagefolder"\nroot = "photos"\nheld_out = 0.2\nscarce = true\ntrain_folder = "train"'
FOLDER_TASK = TASK.replace('source = "digits"', FOLDER)
SPACE = """
name = "fuzz"
description = "a space, in short"
reference = "2303.00690"
presets = ["linear-probe"]
learning_rate = { low = 0.0001, high = 0.05, log = true }
[shared]
rank = [1, 4]
scale = ["none", "channel", 0.5]
[[slots]]
name = "mlp"
operation = ["mlp", "fc1+fc2", "attention"]
tuner = ["none", "adapter", { kind = "lora", rank = 2 }]
form = ["sequential", "parallel"]
blocks = ["all", "last 1/2", "1-3", "every 2"]
[[slots]]
name = "other"
operation = "block"
tuner = ["none", { kind = "adapter", form = "bypass" }, "prompt"]
length = { low = 1, high = 4 }
reading = "deep"
"""


@dataclass(frozen=True)
class Samples:
    """Where valid files lie, all of them in one folder.

    Attributes:
        root: Holds task.toml, folder.toml, space.toml, and `studies` with the study.
        study: That study's folder.
        export: A tuner's.
        pictures: Files of every format, some deep, turned, animated or transparent.
        checkpoints: Of `testing.models.tiny_vit`, in every format.
    """

    root: Path
    study: Path
    export: Path
    pictures: tuple[Path, ...]
    checkpoints: tuple[Path, ...]


def make_samples(root: Path) -> Samples:
    """Write them all into a folder, which takes some seconds of training."""
    for name, text in (("task", TASK), ("folder", FOLDER_TASK), ("space", SPACE)):
        (root / f"{name}.toml").write_text(text)
    studies = ["--studies-dir", str(root / "studies")]
    inline = ["--workers", "0", "-q"]
    files = ["--space", str(root / "space.toml"), "--task", str(root / "task.toml"), "--name", NAME]
    _succeed("run", *files, *studies, *inline, "--trials", str(TRIALS), "--sampler", "random", "--seed", "1")
    _succeed("confirm", NAME, *studies, *inline, "--top", "2", "--seeds", "2", "--epochs", "1", "--remeasure", "1")
    export = root / "export"
    _succeed("export", NAME, *studies, "--pick", "best", "--out", str(export))
    (root / "pictures").mkdir()
    pictures = tuple(_picture(root / "pictures" / name, **how) for name, how in PICTURES.items())
    return Samples(root, root / "studies" / NAME, export, pictures, _checkpoints(root))


def _succeed(*command: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(command)
    if code != 0:
        raise RuntimeError(f"{' '.join(command)}: {said.getvalue()}")


PICTURES: dict[str, dict[str, Any]] = {
    "grey.png": {"mode": "L"},
    "palette.png": {"mode": "P", "transparency": 3},
    "turned.png": {"mode": "RGB", "exif": 6},
    "clear.png": {"mode": "RGBA"},
    "deep.png": {"mode": "I;16"},
    "photo.jpg": {"mode": "RGB", "exif": 3},
    "progressive.jpg": {"mode": "L", "progressive": True},
    "cmyk.jpg": {"mode": "CMYK"},
    "plain.tif": {"mode": "RGB"},
    "float.tif": {"mode": "F"},
    "integer.tif": {"mode": "I"},
    "packed.tif": {"mode": "RGB", "compression": "tiff_lzw", "exif": 8},
    "deep.tif": {"mode": "I;16", "compression": "tiff_deflate"},
    "still.gif": {"mode": "P", "transparency": 1},
    "animated.gif": {"mode": "P", "several": True},
    "photo.webp": {"mode": "RGB", "exif": 2},
    "clear.webp": {"mode": "RGBA", "lossless": True},
    "animated.webp": {"mode": "RGB", "several": True},
    "plain.bmp": {"mode": "RGB"},
    "deep.ppm": {"mode": "I"},
    "plain.pgm": {"mode": "L"},
}


def _picture(path: Path, mode: str, exif: int = 0, several: bool = False, **options: Any) -> Path:
    """A small picture of noise."""
    draw = np.random.default_rng(0)
    if mode in ("F", "I", "I;16"):
        kinds = {"F": np.float32, "I": np.int32, "I;16": np.uint16}
        picture = Image.fromarray(draw.integers(0, 1024, (12, 10)).astype(kinds[mode]))
    else:
        picture = Image.fromarray(draw.integers(0, 256, (12, 10, 3), dtype=np.uint8)).convert(mode)
    if exif:
        tags = Image.Exif()
        tags[0x0112], tags[0x010E] = exif, "a picture"
        options["exif"] = tags.tobytes()
    if several:
        options |= {"save_all": True, "append_images": [picture.rotate(90, expand=False), picture.rotate(180)]}
    picture.save(path, **options)
    return path


def _checkpoints(root: Path) -> tuple[Path, ...]:
    """Weights of `testing.models.tiny_vit` in every format that is read; a .npz as Google publishes them."""
    state = {k: v.contiguous() for k, v in tiny_vit().state_dict().items()}
    paths = tuple(root / f"weights.{suffix}" for suffix in ("safetensors", "pth", "npz"))
    safetensors.torch.save_file(state, paths[0])
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, paths[1])
    np.savez(paths[2], **dict(_as_google({k: v.numpy() for k, v in state.items()})))
    return paths


def _as_google(state: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """timm's names to those of Google's files, whose matrices are (in, out) and have a dimension of heads."""
    yield "embedding/kernel", state["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    yield "embedding/bias", state["patch_embed.proj.bias"]
    yield "cls", state["cls_token"]
    yield "Transformer/posembed_input/pos_embedding", state["pos_embed"]
    yield "Transformer/encoder_norm/scale", state["norm.weight"]
    yield "Transformer/encoder_norm/bias", state["norm.bias"]
    for i in range(DEPTH):
        ours, theirs = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        for norm, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            yield f"{theirs}/{name}/scale", state[f"{ours}.{norm}.weight"]
            yield f"{theirs}/{name}/bias", state[f"{ours}.{norm}.bias"]
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        weights, biases = (np.split(state[f"{ours}.attn.qkv.{part}"], 3) for part in ("weight", "bias"))
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            yield f"{attention}/{name}/kernel", weight.T.reshape(DIM, HEADS, -1)
            yield f"{attention}/{name}/bias", bias.reshape(HEADS, -1)
        yield f"{attention}/out/kernel", state[f"{ours}.attn.proj.weight"].T.reshape(HEADS, -1, DIM)
        yield f"{attention}/out/bias", state[f"{ours}.attn.proj.bias"]
        for j, layer in enumerate(("fc1", "fc2")):
            yield f"{theirs}/MlpBlock_3/Dense_{j}/kernel", state[f"{ours}.mlp.{layer}.weight"].T
            yield f"{theirs}/MlpBlock_3/Dense_{j}/bias", state[f"{ours}.mlp.{layer}.bias"]
