"""Processes that end: with the one that started them, in a given time, and without a signal in between."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PR_SET_PDEATHSIG = 1
INTERRUPTING = (signal.SIGINT, signal.SIGUSR2)
"""A person's word. A launcher hands SIGINT on as SIGUSR2: a Python that just starts dies of it silently."""
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, *INTERRUPTING)
"""Signals that tell a job to stop; launchers and terminals send them to all of its processes."""
GO_ON, STOP, INTERRUPT = 0, 1, 2
"""Nothing was said; save and be started again; save and stay ended, a person's word, which overrules STOP."""


def end_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Have Linux send `how` to this process when its parent is gone, so that a kill leaves no orphans.

    Call it in the child, between fork and exec or at its start. Elsewhere than on Linux it does nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how)


def end_within(seconds: int) -> None:
    """Have the kernel end this process so many seconds from now, whatever it still waits for by then.

    For a process whose work is over: an exit handler, a library's thread or a dead peer may hold it for ever.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold STOPPING back in this thread; a child that is forked within is born with them held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def closing(stream: Any) -> Iterator[None]:
    """Close an iterator when the context is left, if it can be closed: the processes behind it end then."""
    try:
        yield
    finally:
        if hasattr(stream, "close"):
            stream.close()
