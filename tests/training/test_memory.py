"""Memory that is freed is kept for the next step, and given back at the end of a training."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from cacl.training.memory import kept_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        tensors = [torch.ones(2**22) for _ in range(4)]  # 16 MiB each, freed together
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

torch.set_num_threads(1)
faults(2)
outside, before = faults(8), held()
with kept_memory():
    faults(2)
    inside = faults(8)
print(outside, inside, held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_while_asked_for_and_given_back_after():
    """In a process of its own, whose allocator no test has touched; a page is 4 KiB, at most 64."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    outside, inside, more = map(int, done.stdout.split())
    assert outside > 8 * 64 * 2**20 / 2**16  # every round asks for each page anew
    assert inside < outside / 50
    assert more < 8 * 2**20
