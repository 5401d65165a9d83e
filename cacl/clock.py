"""Where a step's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Moment = Any
"""Seconds of the host's clock, or an event on the GPU's stream."""


class Clock:
    """Seconds of each named part, summed until they are taken; a part within a part is not counted for both.

    On a GPU the parts are marked by events, whose times are asked for one step later: nothing waits. Parts
    that run on the host alone (`host=True`) are measured by its own clock everywhere, and whole.

    Counts nothing before `start`.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._running = self._on_host = False
        self._open: list[str] = []
        self._since: Moment = 0.0
        self._intervals: list[tuple[str, Moment, Moment]] = []

    def start(self) -> None:
        """Count from now on, beginning at nothing."""
        self._running, self._intervals = True, []

    def stop(self) -> None:
        """Count no more."""
        self._running = False

    @contextmanager
    def __call__(self, part: str, host: bool = False) -> Iterator[None]:
        """Count the time inside for `part`."""
        if not self._running or self._on_host:
            yield
        elif host:
            started, self._on_host = time.perf_counter(), True
            try:
                yield
            finally:
                self._on_host = False
                self._intervals.append((part, started, time.perf_counter()))
        else:
            self._turn()
            self._open.append(part)
            try:
                yield
            finally:
                self._turn()
                self._open.pop()

    def _turn(self) -> None:
        """Count what has passed for the innermost open part; from here on another one is the innermost."""
        now = self._now()
        if self._open:
            self._intervals.append((self._open[-1], self._since, now))
        self._since = now

    def _now(self) -> Moment:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> Callable[[], dict[str, float]]:
        """Begin anew, and return what gives the seconds so far once the device has come there."""
        intervals, self._intervals = self._intervals, []

        def read() -> dict[str, float]:
            seconds: dict[str, float] = {}
            for part, start, end in intervals:
                seconds[part] = seconds.get(part, 0.0) + _between(start, end)
            return seconds

        return read


def _between(start: Moment, end: Moment) -> float:
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000
