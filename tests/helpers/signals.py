"""Signals that whoever started this process had ignored."""

from __future__ import annotations

import signal


def hear_all() -> None:
    """Hear SIGHUP and SIGINT, which nohup and `&` have ignored, also in the processes of tests."""
    for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
