"""Which device and which arithmetic trials run on."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from utuning_search.common.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
CPU_BF16_FLAGS = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Runtime:
    """Where trials run.

    Attributes:
        device: "cpu", "cuda", "cuda:1" or "mps".
        precision: "fp32" or "bf16" (of the forward and backward pass; weights and final accuracy are fp32).
        data_dir: Where relative data paths are looked up.
        threads: CPU threads a process; 1 keeps small layers fast and figures the same on every machine size.
        sharers: Processes of a run on this device, this one included; they share its memory.
    """

    device: str = "cpu"
    precision: str = "fp32"
    data_dir: str | None = None
    threads: int = 1
    sharers: int = 1

    @property
    def data_path(self) -> Path | None:
        return None if self.data_dir is None else Path(self.data_dir)

    def autocast(self) -> Callable[[], AbstractContextManager[None]]:
        """Contexts for the forward pass."""
        if self.precision == "fp32":
            return nullcontext
        kind = self.device.split(":")[0]
        return lambda: cast(AbstractContextManager[None], torch.autocast(kind, dtype=torch.bfloat16))


def resolve_device(name: str) -> str:
    """The device of an option's value; "auto" takes CUDA, then MPS, then the CPU."""
    kind, numbered, index = name.partition(":")
    if kind not in DEVICES or (numbered and not (kind == "cuda" and index.isdecimal())):
        todo = "One GPU of several: cuda:0, cuda:1 and so on."
        raise InputError("--device", f"device is one of {', '.join(DEVICES)}", f"'{name}'", todo)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return next(k for k in ("cuda", "mps", "cpu") if there[k])
    if not there[kind] or (index and int(index) >= torch.cuda.device_count()):
        raise InputError("--device", "the device is there", f"'{name}' on a machine without it", "Use --device auto.")
    return name


def resolve_precision(name: str, device: str, backbone: str) -> str:
    """The precision of an option's value.

    "auto" takes bf16 on CUDA devices that have it, and on CPUs with bf16 matrix units for backbones that are
    large enough to gain from it; fp32 otherwise.
    """
    if name not in PRECISIONS:
        raise InputError("--precision", f"precision is one of {', '.join(PRECISIONS)}", f"'{name}'")
    if name != "auto":
        return name
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device == "cpu" and backbone != "glyph_vit" and _cpu_has_bf16() else "fp32"


def default_workers(device: str) -> int:
    """One process a CPU core this process may use, or one a GPU."""
    if device.startswith("cuda"):
        return torch.cuda.device_count() if device == "cuda" else 1
    if device == "mps":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runtimes(runtime: Runtime, workers: int) -> tuple[Runtime, ...]:
    """One a worker, and at least one: those on "cuda" are dealt out to the GPUs there are, in turns."""
    gpus = torch.cuda.device_count() if runtime.device == "cuda" and workers > 1 else 0
    devices = [f"cuda:{i % gpus}" if gpus else runtime.device for i in range(max(workers, 1))]
    return tuple(replace(runtime, device=device, sharers=devices.count(device)) for device in devices)


def _cpu_has_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return any(flag in flags for flag in CPU_BF16_FLAGS)
