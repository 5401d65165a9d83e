"""Who is at work, and the error that says so."""

from __future__ import annotations

import sys
from types import FrameType

_PRODUCT = {"cacl", "shards", "launch", "tests", "benchmarks"}
_MODES = {f"tests.device.{name}" for name in ("flow", "frames", "places", "stand_ins")} | {
    "tests.helpers.waiting"
}


class Crossing(AssertionError):
    """Host and device mix, or the host reads or awaits the device where it must not."""


def running_function() -> str:
    """Return the innermost function of the product (or of a test) that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in _PRODUCT and module not in _MODES:
            return f"{module}.{frame.f_code.co_qualname.partition('.<locals>')[0]}"
        frame = frame.f_back
    return ""


def here() -> str:
    """Return the place, for messages."""
    return f" (in {running_function()})"
