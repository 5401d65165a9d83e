"""What a bench measures of a device: rows, how much of each, and how long something takes."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    name: str
    value: float | None
    """A median; None where there is no room for it, or no library."""
    unit: str
    spread: tuple[float, float] | None = None
    """The least and the most of what was measured."""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    square: int = 8192
    """Side of the matrices of the device's own limits."""
    copied_mib: int = 2048
    steps: tuple[int, ...] = (128, 256, 1024)
    """Clips of a step."""
    micro: int = 128
    side: int = 224
    taken: int = 12
    """Steps of which the last two thirds count."""
    compiled: bool = True
    losses: tuple[int, ...] = (1024, 4096, 16384, 32768)
    """Clips of a loss."""
    rivals: tuple[int, ...] = (1024, 4096)
    """Clips of a loss by kernels of others."""
    packed: int = 512
    """Clips that are decoded, epoch after epoch."""
    decoded: int = 40_000
    measured: int = 5158
    """Maps that a protocol measures: VGG-SS's clips."""
    seconds: float = 2.0
    """How long something short is repeated."""


QUICK = Sizes(256, 8, (2, 4, 8), 2, 64, 3, False, (32, 64), (32,), 16, 32, 32, 0.1)
"""A minute or two on a processor: the same rows of less."""


def time_of(run: Callable[[], Any], device: torch.device, seconds: float, least: int = 3) -> list[float]:
    """Return the seconds of each of at least `least` runs, repeated for `seconds` after one to warm up."""
    run()
    wait(device)
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or (time.perf_counter() < end and len(found) < 1000):
        if device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            stop.record()
            stop.synchronize()
            found.append(start.elapsed_time(stop) / 1000)
        else:
            started = time.perf_counter()
            run()
            found.append(time.perf_counter() - started)
    return found


def row(name: str, seconds: list[float], **more: Any) -> Row:
    """Return the row of what took so many seconds each time."""
    return Row(name, statistics.median(seconds), "s", (min(seconds), max(seconds)), more)


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: torch.device) -> None:
    """Give memory that nobody uses back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def reset_peak(device: torch.device) -> int:
    """Forget the most memory that was taken so far; return what is taken now."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak(device: torch.device, before: int) -> int | None:
    """Return the most bytes that were taken beyond `before`; None where only a GPU could say."""
    return torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None


def as_json(one: Row) -> str:
    """Return a row as one line of JSON."""
    values: dict[str, Any] = {"benchmark": one.name, "ours": one.value, "unit": one.unit}
    if one.spread is not None:
        values["spread"] = one.spread
    return json.dumps({**values, **one.more})
