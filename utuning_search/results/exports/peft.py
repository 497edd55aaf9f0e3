"""The format `peft`: a LoRA trial as a folder that Hugging Face peft loads."""

from pathlib import Path
from typing import cast

from utuning_search.backbones.loading import GLYPH_VIT
from utuning_search.backbones.names import parse_name
from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.text import python_string
from utuning_search.designs.design import Design
from utuning_search.results.exported import README
from utuning_search.results.exports.base import Written, check_free
from utuning_search.results.exports.beside import INFERENCE, lines_with, readme, write_inference
from utuning_search.results.exports.peft_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    check_layers,
    check_peft,
    write_peft,
)
from utuning_search.results.exports.tuner import load_trial
from utuning_search.results.trained import read_source, source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord


def export(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> Written:
    """Write a LoRA trial as Hugging Face peft's adapter_config.json and adapter_model.safetensors.

    Classes and preprocessing are in inference.json beside them.

    Raises:
        InputError: peft cannot hold the design, or not with this backbone; says why.
        StudyError: See `tuner.export_trial`.
    """
    source_of(study, record)
    design = cast(Design, record.design)
    check_peft(design)
    check_free(out, (ADAPTER_CONFIG, ADAPTER_WEIGHTS, INFERENCE, README))
    loaded, tensors = load_trial(study, record, data_dir), read_source(study, record)
    check_layers(design, loaded.model.model.adapter)
    with whole_folder(out, last=ADAPTER_CONFIG) as folder:
        write_peft(design, tensors, study.shape, study.spec.task.backbone.exact, folder)
        write_inference(study, loaded.model, folder)
        lines = _lines(study, out.resolve().name)
        write_atomically(folder / README, readme("A LoRA in peft's format", lines, loaded.model, [f"Design: {design}"]))
    return Written("", _lines(study, out))


def _lines(study: Study, folder: Path | str) -> tuple[str, ...]:
    spec, classes = study.spec.task.backbone, len(study.classes)
    size = f", img_size={spec.image_size}" if spec.image_size else ""
    weights = f'pretrained_cfg_overlay={{"file": {python_string(spec.checkpoint)}}}, ' if spec.checkpoint else ""
    imports: tuple[str, ...]
    base: tuple[str, ...]
    if spec.name == GLYPH_VIT or parse_name(spec.name).source:  # in this package only, or not in timm's layout
        more = [f"checkpoint=Path({python_string(spec.checkpoint)})"] if spec.checkpoint else []
        more += [f"image_size={spec.image_size}"] if spec.image_size else []
        imports = ("from utuning_search.backbones.loading import load_backbone",)
        base = (
            f"base = load_backbone({', '.join([python_string(spec.exact), *more])})",
            f"base.reset_classifier({classes})",
        )
    else:
        made = f'"{spec.name}", pretrained=True, {weights}num_classes={classes}{size}'
        imports, base = ("import timm",), (f"base = timm.create_model({made})",)
    loading = (
        *base,
        f"model = peft.PeftModel.from_pretrained(base, {python_string(folder)}).eval()",
        'logits = model(torch.from_numpy(prepared("photo.jpg"))[None])',
    )
    return lines_with(folder, ("import peft", *imports, "import torch"), loading)
