"""The format `timm`: a design that folds into its backbone, as a plain timm model in the layout of timm on the hub.

`config.json` and `model.safetensors` are what timm itself writes: `timm.create_model("local-dir:FOLDER",
pretrained=True)`, or from the hub, once uploaded, `"hf-hub:USER/NAME"`.
"""

import json
from pathlib import Path
from typing import cast

import safetensors.torch

from utuning_search.backbones.plain import as_timm, load_plain
from utuning_search.common.errors import InputError
from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.text import python_string
from utuning_search.designs.design import Design
from utuning_search.designs.mergeability import staying
from utuning_search.results.exported import README
from utuning_search.results.exports.base import Written, check_free, check_logits
from utuning_search.results.exports.beside import OPEN
from utuning_search.results.exports.tuner import load_trial
from utuning_search.results.trained import source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import backbone_name
from utuning_search.tuners import BackboneShape

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OTHERS = "Export it with --format onnx or torch, which take any design, or as a tuner."


def export(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> Written:
    """Write a trial's merged model as timm's config.json and model.safetensors.

    Raises:
        InputError: The design does not fold; names what of it does not.
        StudyError: See `tuner.export_trial`; or timm computes something else with it.
    """
    source_of(study, record)
    design = cast(Design, record.design)
    check_folds(design, study.shape)
    check_free(out, (CONFIG, WEIGHTS, README))
    loaded, spec = load_trial(study, record, data_dir), study.spec.task.backbone
    how, classes = loaded.model.preprocessing, loaded.model.classes
    name = backbone_name(study.spec.task, data_dir or study.local.get("data_dir"))
    state, config = as_timm(loaded.merged(), spec, how, classes, name)
    with whole_folder(out, last=CONFIG) as folder:
        write_atomically(folder / WEIGHTS, safetensors.torch.save(state, metadata={"format": "pt"}))
        write_atomically(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        checked = check_logits(load_plain(folder), loaded, record, "read by timm")
        lines = _lines(out.resolve().name, how.channels)
        said = ["", OPEN.replace("inference.json", CONFIG)] if loaded.model.decoding.to_dict() else []
        text = ["# A plain timm model", "", "```python", *lines, "```", *said, "", f"- Design, merged: {design}"]
        text += [f"- Backbone: `{spec.title}`", f"- {checked[0].upper()}{checked[1:]}", ""]
        write_atomically(folder / README, "\n".join(text))
    return Written(checked, _lines(out, how.channels))


def check_folds(design: Design, shape: BackboneShape) -> None:
    """Raise InputError, in one line that names what stays, unless all of a design folds into the backbone."""
    left = staying(design, shape)
    if left:
        rule = "all of the design folds into the backbone's weights"
        raise InputError("--format timm", rule, "; ".join(map(str, left)), OTHERS)


def _lines(folder: Path | str, channels: int) -> tuple[str, ...]:
    mode = "L" if channels == 1 else "RGB"
    return (
        "import timm",
        "from PIL import Image, ImageOps",
        "",
        f"model = timm.create_model({python_string(f'local-dir:{folder}')}, pretrained=True).eval()",
        "config = timm.data.resolve_model_data_config(model)",
        "prepare = timm.data.create_transform(**config, is_training=False)",
        f'picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")',
        "logits = model(prepare(picture)[None])",
        'print(model.pretrained_cfg["label_names"][int(logits[0].argmax())])',
    )
