"""What a process was told by signals: to save and be started again, or to save and stay ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from cacl.processes import GO_ON, INTERRUPT, INTERRUPTING, STOP, STOPPING

_STUCK_SECONDS = 20.0
"""How long a process that was told to stop may take to come to its training, where it stops in order."""


def is_ignored(number: signal.Signals) -> bool:
    """Say whether whoever started this process wants the signal ignored, as nohup does with SIGHUP."""
    asked_for = number in (signal.SIGHUP, signal.SIGINT)
    return asked_for and signal.getsignal(number) is signal.SIG_IGN


class StopRequest:
    """Says what this process was told; the trainer asks it at every step.

    Until it has asked there is nothing to save: SIGINT ends the process as it always does.
    """

    def __init__(self) -> None:
        self.word = GO_ON
        self.asked = False
        for number in STOPPING:
            if not is_ignored(number):
                signal.signal(number, self._hear)

    def ignore(self) -> None:
        """Ignore from now on what this heard: all is saved, and an ending Python would die of it."""
        for number in STOPPING:
            if signal.getsignal(number) == self._hear:
                signal.signal(number, signal.SIG_IGN)

    def note(self, number: int) -> None:
        """Take a signal as told; a person's overrules the others."""
        self.word = max(self.word, INTERRUPT if number in INTERRUPTING else STOP)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self.asked:
            raise KeyboardInterrupt
        self.note(number)

    def __call__(self) -> int:
        """Return GO_ON, STOP or INTERRUPT."""
        self.asked = True
        return self.word

    def end_if_stuck(self, leave: Callable[[], None], seconds: float = _STUCK_SECONDS) -> None:
        """End this process if it was told to stop and does not come to its training; call `leave` before.

        A process that waits for another within a library runs no handler of Python; a thread hears for it.
        """
        heard, hear = os.pipe()
        os.set_blocking(hear, False)
        signal.set_wakeup_fd(hear, warn_on_full_buffer=False)

        def watch() -> None:
            while os.read(heard, 1)[0] not in STOPPING:
                pass
            time.sleep(seconds)
            if not self.asked:
                print("told to stop before the training began; nothing to save", file=sys.stderr, flush=True)
                leave()
                os._exit(1)

        threading.Thread(target=watch, name="early stop", daemon=True).start()
