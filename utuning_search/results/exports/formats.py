"""The list of formats, and the module of each; light, because the command line's help shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from utuning_search.common.errors import InputError
from utuning_search.common.lazy import load


@dataclass(frozen=True)
class Format:
    """A format of exports. Its module in this package has the same name.

    Attributes:
        name: For --format.
        holds: What it is, in a few words.
        needs: Libraries that it takes besides those that are always there.
        install: What brings them.
    """

    name: str
    holds: str
    needs: tuple[str, ...] = ()
    install: str = ""


HUB = "hub"
FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        Format("tuner", "loads with load_tuned"),
        Format("peft", "LoRA for Hugging Face peft"),
        Format("timm", "a plain timm model, of designs that fold into the backbone"),
        Format("onnx", "any design for ONNX Runtime", ("onnx", "onnxscript", "onnxruntime"), "utuning-search[onnx]"),
        Format("torch", "any design as a torch.export program"),
        Format(HUB, "tuner with a model card for the Hugging Face hub", ("huggingface_hub",), "huggingface_hub"),
    )
}
DEFAULT = "tuner"


def exporter(name: str) -> Callable[..., Any]:
    """The function `export(study, record, out, data_dir)` of a format, which gives what `base.Written` says.

    Raises:
        InputError: No such format, or a library that it needs is not there.
    """
    if name not in FORMATS:
        raise InputError("--format", f"format is one of {', '.join(FORMATS)}", f"'{name}'")
    known = FORMATS[name]
    for library in known.needs:
        try:
            import_module(library)
        except ImportError as error:
            needed = f"{', '.join(known.needs)} can be imported"
            todo = f'Install: pip install "{known.install}"'
            raise InputError(f"--format {name}", needed, f"no {library} ({error})", todo) from None
    found: Callable[..., Any] = load(f"{__package__}.{name}", "export")
    return found
