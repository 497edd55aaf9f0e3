"""inference.json beside a model that others load: its classes, how pictures become its input, and lines that do it."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from utuning_search.common.files import write_atomically
from utuning_search.common.text import python_string
from utuning_search.results.classifier import TunedClassifier
from utuning_search.search.study import Study

INFERENCE = "inference.json"
# As `data/pixels.py` does it, with numpy and Pillow alone.
PREPARED = (
    "def prepared(path):",
    '    picture = ImageOps.exif_transpose(Image.open(path)).convert(how["mode"])',
    '    wide, high = (how["resize"] * n // min(picture.size) for n in picture.size)',
    '    picture = picture.resize((wide, high), Image.Resampling[how["interpolation"].upper()])',
    '    left, top = (round((n - how["size"]) / 2) for n in (wide, high))',
    '    picture = picture.crop((left, top, left + how["size"], top + how["size"]))',
    '    pixels = np.asarray(picture, np.float32).reshape(how["size"], how["size"], -1) / 255',
    '    return ((pixels - how["mean"]) / how["std"]).transpose(2, 0, 1).astype(np.float32)',
)
OPEN = "Deeper pictures than of 8 bits, and transparent ones, were read as `decoding` in `inference.json` says."


def inference(study: Study, model: TunedClassifier) -> dict[str, Any]:
    """What inference.json holds."""
    how, read = model.preprocessing, model.decoding.to_dict()
    return {
        "classes": list(model.classes),
        "preprocessing": {
            "mode": "L" if how.channels == 1 else "RGB",
            "resize": how.resized,
            "size": how.image_size,
            "interpolation": how.interpolation,
            "mean": list(how.mean),
            "std": list(how.std),
            **({"decoding": read} if read else {}),
        },
        "design": str(model.design),
        "backbone": study.spec.task.backbone.exact,
        "versions": {name: version(name) for name in ("utuning-search", "torch", "timm")},
    }


def write_inference(study: Study, model: TunedClassifier, folder: Path, **more: Any) -> None:
    """Write inference.json into a folder; `more` goes into it too."""
    table = {**inference(study, model), **more}
    write_atomically(folder / INFERENCE, json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def lines_with(folder: Path | str, imports: tuple[str, ...], loading: tuple[str, ...]) -> tuple[str, ...]:
    """Python that prepares a photo and names what it shows.

    Args:
        folder: Of the export.
        imports: What it takes besides.
        loading: Lines that make `logits` of `prepared("photo.jpg")`, for one image (1, classes).
    """
    return (
        "import json",
        "from pathlib import Path",
        "",
        "import numpy as np",
        *imports,
        "from PIL import Image, ImageOps",
        "",
        f'about = json.loads(Path({python_string(Path(folder) / INFERENCE)}).read_text(encoding="utf-8"))',
        'how = about["preprocessing"]',
        "",
        *PREPARED,
        "",
        *loading,
        'print(about["classes"][int(logits[0].argmax())])',
    )


def readme(title: str, lines: tuple[str, ...], model: TunedClassifier, facts: list[str]) -> str:
    """The text of a README.md: lines that use the folder, and what it is."""
    said = ["", OPEN] if model.decoding.to_dict() else []
    listed = [f"- {fact}" for fact in facts]
    return "\n".join([f"# {title}", "", "```python", *lines, "```", *said, "", *listed, ""])
