"""How much memory a loss takes, for tests and benchmarks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor


def peak_memory(loss: Callable[[], Tensor], inputs: Sequence[Tensor]) -> int:
    """Return the bytes allocated at most during forward and backward, less the gradients of the inputs.

    The inputs have no gradients before, and none afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            loss().backward()
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    memory = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    before = memory[0]["args"]["Total Allocated"] - memory[0]["args"]["Bytes"]
    gradients = sum(tensor.nbytes for tensor in inputs)
    for tensor in inputs:
        tensor.grad = None
    return max(e["args"]["Total Allocated"] for e in memory) - before - gradients
