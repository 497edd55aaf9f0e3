"""Memory that a process of ours frees stays with it, where the C library can do so."""

import subprocess
import sys

import pytest

from utuning_search.training.allocator import keep_freed_memory

SCRIPT = """
import resource, sys
from utuning_search.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        block = bytearray(b"1") * (20 << 20)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_was_freed_is_not_asked_of_the_kernel_again() -> None:
    """Of 50 blocks of 20 MiB, each of 5,120 pages, none costs a fault of its pages; in a process of its own."""
    kept = subprocess.run([sys.executable, "-c", SCRIPT, "keep"], check=True, capture_output=True, text=True)
    assert int(kept.stdout) < 5120


def test_other_systems_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()
