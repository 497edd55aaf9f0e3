"""The format `onnx`: any design as model.onnx, which needs ONNX Runtime alone; the door of onnxruntime."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor
from torch.export import ExportedProgram

from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.text import python_string
from utuning_search.results.exported import README
from utuning_search.results.exports.base import Written, check_free, check_logits
from utuning_search.results.exports.beside import INFERENCE, lines_with, readme, write_inference
from utuning_search.results.exports.program import BATCH, IMAGES, LOGITS, traced
from utuning_search.results.exports.tuner import load_trial
from utuning_search.results.trained import source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

MODEL, BESIDE = "model.onnx", "model.onnx.data"
LARGEST = 1 << 30  # bytes of weights in one file: protobuf ends at 2 GiB
CPU = ("CPUExecutionProvider",)
NOISY = ("onnxscript", "onnx_ir", "torch.onnx")  # they tell of graphs they leave as they are


def export(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> Written:
    """Write a trial's merged model as model.onnx, with inference.json and README.md beside it.

    Raises:
        StudyError: See `tuner.export_trial`; or ONNX Runtime computes something else with it.
    """
    source_of(study, record)
    check_free(out, (MODEL, BESIDE, INFERENCE, README))
    loaded = load_trial(study, record, data_dir)
    program = traced(loaded.merged(), loaded.inputs)
    with whole_folder(out, last=MODEL) as folder:
        write_onnx(program, folder / MODEL)
        checked = check_logits(Session(folder / MODEL), loaded, record, "in ONNX Runtime")
        write_inference(study, loaded.model, folder, input=IMAGES, output=LOGITS)
        facts = [f"Design, merged where it folds: {loaded.model.design}", f"{checked[0].upper()}{checked[1:]}"]
        lines = _lines(out.resolve().name)
        write_atomically(folder / README, readme("An ONNX model", lines, loaded.model, facts))
    return Written(checked, _lines(out))


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write a program as an ONNX file, its input "images" (batch, ...) and its output "logits" (batch, classes)."""
    weights = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    with _quietly():
        made = torch.onnx.export(program, input_names=[IMAGES], output_names=[LOGITS], dynamo=True, verbose=False)
        if made is None:
            raise TypeError("torch.onnx.export gave no program")
        if (shape := made.model.graph.inputs[0].shape) is not None:
            made.rename_axes({str(shape[0]): BATCH})
        made.save(path, external_data=weights > LARGEST)


class Session:
    """An ONNX file in ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=list(CPU))

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images to logits."""
        (logits,) = self._session.run([LOGITS], {IMAGES: images.numpy()})
        return torch.from_numpy(logits)


@contextmanager
def _quietly() -> Iterator[None]:
    """No warnings of what libraries do with each other."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _lines(folder: Path | str) -> tuple[str, ...]:
    loading = (
        f"session = onnxruntime.InferenceSession({python_string(Path(folder) / MODEL)})",
        f'(logits,) = session.run(None, {{"{IMAGES}": prepared("photo.jpg")[None]}})',
    )
    return lines_with(folder, ("import onnxruntime",), loading)
