"""The format `torch`: any design as a torch.export program, model.pt2, which needs torch alone."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.text import python_string
from utuning_search.results.exported import README
from utuning_search.results.exports.base import Written, check_free, check_logits
from utuning_search.results.exports.beside import INFERENCE, lines_with, readme, write_inference
from utuning_search.results.exports.program import traced
from utuning_search.results.exports.tuner import load_trial
from utuning_search.results.trained import source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

PROGRAM = "model.pt2"


def export(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> Written:
    """Write a trial's merged model as model.pt2, with inference.json and README.md beside it.

    Raises:
        StudyError: See `tuner.export_trial`; or the program computes something else.
    """
    source_of(study, record)
    check_free(out, (PROGRAM, INFERENCE, README))
    loaded = load_trial(study, record, data_dir, fused=True)
    program = traced(loaded.merged(), loaded.inputs)
    with whole_folder(out, last=PROGRAM) as folder:
        torch.export.save(program, folder / PROGRAM)
        module = torch.export.load(folder / PROGRAM).module()
        checked = check_logits(lambda images: cast(Tensor, module(images)), loaded, record, "as a torch.export program")
        write_inference(study, loaded.model, folder)
        facts = [f"Design, merged where it folds: {loaded.model.design}", f"{checked[0].upper()}{checked[1:]}"]
        lines = _lines(out.resolve().name)
        text = readme("A torch.export program", lines, loaded.model, facts)
        write_atomically(folder / README, text)
    return Written(checked, _lines(out))


def _lines(folder: Path | str) -> tuple[str, ...]:
    loading = (
        f"model = torch.export.load({python_string(Path(folder) / PROGRAM)}).module()",
        'logits = model(torch.from_numpy(prepared("photo.jpg"))[None])',
    )
    return lines_with(folder, ("import torch",), loading)
