"""Where a step's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds of each named part, summed until they are taken.

    On a GPU the parts are marked by events, whose times are asked for one step later: nothing waits. Parts
    that run on the host alone (`host=True`) are measured by its own clock everywhere.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, part: str, host: bool = False) -> Iterator[None]:
        """Count the time inside for `part`."""
        if self._cuda and not host:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events.append((part, start, end))
            return
        started = time.perf_counter()
        yield
        self.add(part, time.perf_counter() - started)

    def add(self, part: str, seconds: float) -> None:
        """Count so many seconds for `part`."""
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds

    def take(self) -> Callable[[], dict[str, float]]:
        """Begin anew, and return what gives the seconds so far once the device has come there."""
        seconds, events = self._seconds, self._events
        self._seconds, self._events = {}, []

        def read() -> dict[str, float]:
            for part, start, end in events:
                seconds[part] = seconds.get(part, 0.0) + start.elapsed_time(end) / 1000
            return seconds

        return read
