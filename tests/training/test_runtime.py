"""Devices and precisions: what is not there is refused, and workers are dealt out to the GPUs there are."""

import pytest
import torch

from utuning_search.common.errors import InputError
from utuning_search.training.runtime import Runtime, resolve_device, resolve_precision, runtimes


@pytest.mark.parametrize("name", ["gpu", "", "cpu0", "CPU"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device is one of auto, cpu, cuda, mps"):
        resolve_device(name)


def test_auto_is_a_device_that_is_there() -> None:
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["fp16", "", "FP32"])
def test_an_unknown_precision_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="precision is one of auto, fp32, bf16"):
        resolve_precision(name, "cpu", "glyph_vit")


def test_the_embedded_backbone_runs_in_fp32_on_cpus() -> None:
    assert resolve_precision("auto", "cpu", "glyph_vit") == "fp32"
    assert resolve_precision("bf16", "cpu", "glyph_vit") == "bf16"


@pytest.mark.parametrize(
    ("device", "gpus", "workers", "devices", "sharers"),
    [
        ("cuda", 2, 5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"], [3, 2, 3, 2, 3]),
        ("cuda", 4, 2, ["cuda:0", "cuda:1"], [1, 1]),
        ("cuda", 4, 1, ["cuda"], [1]),
        ("cuda", 4, 0, ["cuda"], [1]),
        ("cuda:1", 4, 2, ["cuda:1", "cuda:1"], [2, 2]),
        ("cpu", 0, 2, ["cpu", "cpu"], [2, 2]),
    ],
)
def test_workers_are_dealt_out_to_gpus(
    device: str, gpus: int, workers: int, devices: list[str], sharers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    dealt = runtimes(Runtime(device, "bf16", "there"), workers)
    assert ([r.device for r in dealt], [r.sharers for r in dealt]) == (devices, sharers)
    assert {(r.precision, r.data_dir, r.threads) for r in dealt} == {("bf16", "there", 1)}
