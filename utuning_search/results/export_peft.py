"""Write a LoRA trial as a folder that Hugging Face peft loads."""

from pathlib import Path
from typing import cast

from utuning_search.backbones.loading import GLYPH_VIT
from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.text import python_string
from utuning_search.designs.design import Design
from utuning_search.results.export import check_free
from utuning_search.results.exported import README
from utuning_search.results.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_peft, write_peft
from utuning_search.results.trained import read_source, source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord


def export_peft(study: Study, record: TrialRecord, out: Path) -> list[str]:
    """Write a LoRA trial as Hugging Face peft's adapter_config.json and adapter_model.safetensors.

    Returns:
        The lines that load it with peft and timm.

    Raises:
        InputError: peft cannot hold the design; says why.
    """
    source_of(study, record)
    design = cast(Design, record.design)
    check_peft(design)
    check_free(out, (ADAPTER_CONFIG, ADAPTER_WEIGHTS, README))
    tensors, lines = read_source(study, record), _peft_lines(study, out)
    text = ["# A LoRA in peft's format", "", "```python", *lines, "```", "", f"Design: {design}", ""]
    with whole_folder(out, last=ADAPTER_CONFIG) as folder:
        write_peft(design, tensors, study.shape, study.spec.task.backbone.name, folder)
        write_atomically(folder / README, "\n".join(text))
    return lines


def _peft_lines(study: Study, out: Path) -> list[str]:
    spec, classes = study.spec.task.backbone, len(study.classes)
    size = f", img_size={spec.image_size}" if spec.image_size else ""
    weights = f'pretrained_cfg_overlay={{"file": {python_string(spec.checkpoint)}}}, ' if spec.checkpoint else ""
    if spec.name == GLYPH_VIT:
        base = [
            "from utuning_search.backbones.loading import load_backbone",
            f'base = load_backbone("{GLYPH_VIT}")',
            f"base.reset_classifier({classes})",
        ]
    else:
        made = f'"{spec.name}", pretrained=True, {weights}num_classes={classes}{size}'
        base = ["import timm", f"base = timm.create_model({made})"]
    return ["import peft", *base, f"model = peft.PeftModel.from_pretrained(base, {python_string(out)}).eval()"]
