"""With this folder on PYTHONPATH, a process kills its whole group at its n-th change or opening of a file in a folder.

Set by the environment: DOOM_FOLDER, DOOM_EVENT (n, counted in each process) and DOOM_DELAY (seconds of life
left after it). So moments of death are drawn from what a program does, not from a clock that a faster machine
runs ahead of.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time

_EVENTS = ("open", "os.rename", "os.remove", "shutil.rmtree")
_count = itertools.count(1)


def _die(delay: float) -> None:
    time.sleep(delay)
    os.killpg(0, signal.SIGKILL)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _EVENTS:
        return
    # What rmtree removes is named without its folder.
    inside = event == "os.remove" or str(arguments[0]).startswith(os.environ["DOOM_FOLDER"])
    if inside and next(_count) == int(os.environ["DOOM_EVENT"]):
        delay = float(os.environ["DOOM_DELAY"])
        if delay:
            threading.Thread(target=_die, args=(delay,), daemon=True).start()
        else:
            _die(0)


if "DOOM_FOLDER" in os.environ:
    sys.addaudithook(_watch)
