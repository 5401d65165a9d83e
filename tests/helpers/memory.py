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

    The inputs have no gradients before, and none afterwards. On a GPU its allocator says so, on a processor the
    profiler.
    """
    peak = _peak_on_gpu(loss, inputs[0].device) if inputs[0].is_cuda else _peak_on_cpu(loss)
    for tensor in inputs:
        tensor.grad = None
    return peak - sum(tensor.nbytes for tensor in inputs)


def _peak_on_gpu(loss: Callable[[], Tensor], device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    loss().backward()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(loss: Callable[[], Tensor]) -> int:
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
    return max(e["args"]["Total Allocated"] for e in memory) - before
