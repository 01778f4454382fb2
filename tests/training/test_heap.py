"""Many networks at once do not have the system clear the same memory in every step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEASURED = """
import resource, torch
from skreweight._training.heap import keep_freed_memory
torch.set_num_threads(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [torch.ones(300_000) for _ in range(6)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the hint is one to glibc")
def test_freed_blocks_are_kept() -> None:
    """In a process of its own: the C library never forgets a hint."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 2_000
    assert after < before / 10
