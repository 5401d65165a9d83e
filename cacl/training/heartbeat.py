"""A heartbeat of every rank, and the watcher that names the rank that hangs and ends the job.

A thread of each rank writes `heartbeat/rank-N.json` in the run directory a few times within the timeout: a
count that goes up as long as the process runs, and the place that its main thread has come to. Where one rank
hangs, all soon wait for it. A rank that has not come further for long looks at everybody's heartbeat: a rank
whose count stands still is stopped, or its node is gone; if all of them count, those that are behind hang. A
rank that is alone waits for data no longer than the timeout.

No clocks are compared: only counts read twice. The files never grow, so a full disk does not stop them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cacl.errors import UserError
from cacl.world import World

FOLDER = "heartbeat"
PARTS = ("checkpoint", "waiting for data", "computing")
"""What a rank does at a step, in this order; the checkpoint is that of all steps before."""
WAITING = PARTS[1]

_TICKS = 20
"""Looks within a timeout."""
_PATIENCE = 14
"""Looks without progress after which a rank asks who hangs: the answer comes before the timeout."""
_SIZE = 512
"""Bytes of a heartbeat file: it is written over, never longer."""


@dataclass(frozen=True)
class Beat:
    """One rank's sign of life."""

    rank: int
    host: str
    pid: int
    launcher: int
    """Process that started it: only a rank of the same one is ended by another rank."""
    step: int
    part: str
    count: int

    def __post_init__(self) -> None:
        numbers = (self.rank, self.pid, self.launcher, self.step, self.count)
        if self.part not in PARTS or any(type(number) is not int for number in numbers):
            raise ValueError("not a heartbeat")

    def place(self) -> tuple[int, int]:
        """Return how far the rank has come, to be compared with others."""
        return self.step, PARTS.index(self.part)


class Heartbeat:
    """Use as a context around a training; `at` says where the main thread has come to."""

    def __init__(self, folder: Path, world: World, timeout: float) -> None:
        """`folder` is the run's; `timeout` in seconds is how long a rank may keep all others waiting."""
        self.folder, self.world, self.timeout = folder / FOLDER, world, timeout
        self._step, self._part, self._progress = 0, WAITING, 0
        self._count = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file(self.world.rank).write_bytes(b" " * _SIZE)
        except OSError as error:
            raise UserError(
                f"{error.filename or self.folder}: {error.strerror}; heartbeats are written there: "
                "take it away or make room, then go on with --resume",
                exit_code=1,
            ) from error
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # where nothing can be written any more, another error says so
            self._file(self.world.rank).unlink()

    def at(self, step: int, part: str) -> None:
        """Say that this rank does `part` (one of PARTS) of `step` now."""
        self._step, self._part = step, part
        self._progress += 1

    def _file(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.json"

    def _beat(self) -> None:
        """Write this rank's file. An error is no reason to stop: the others see a count that stands still."""
        self._count += 1
        beat = Beat(
            self.world.rank,
            socket.gethostname(),
            os.getpid(),
            os.getppid(),
            self._step,
            self._part,
            self._count,
        )
        with contextlib.suppress(OSError), self._file(self.world.rank).open("r+b") as file:
            file.write(json.dumps(asdict(beat)).encode().ljust(_SIZE))

    def _read(self) -> dict[int, Beat]:
        found = {}
        for rank in range(self.world.size):
            with contextlib.suppress(OSError, ValueError, TypeError):
                values: dict[str, Any] = json.loads(self._file(rank).read_bytes())
                found[rank] = Beat(**values)
        return found

    def _watch(self) -> None:
        """Beat, and count looks without progress: a job that was suspended as a whole counts none."""
        parent, seen, still = os.getppid(), -1, 0
        earlier: dict[int, Beat] = {}
        while not self._done.wait(self.timeout / _TICKS):
            self._beat()
            if os.getppid() != parent:
                parent = os.getppid()
                print(f"rank {self.world.rank}: its launcher has died; stopping", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
            still = still + 1 if self._progress == seen else 0
            seen = self._progress
            if self.world.size == 1 and self._part != WAITING:  # it keeps nobody waiting: a debugger may
                continue
            if still == _PATIENCE:
                earlier = self._read()
            elif still > _PATIENCE + 2:
                self._end(earlier, self._read())

    def _end(self, earlier: dict[int, Beat], now: dict[int, Beat]) -> None:
        """End this process, whose main thread waits for ever; the rank that hangs too, where it is near."""
        hanging, sentence = judge(earlier, now, self.world.size, self.timeout)
        speaker = min((rank for rank in range(self.world.size) if rank not in hanging), default=0)
        if self.world.rank != speaker:
            self._done.wait(2 * self.timeout / _TICKS)  # time for the speaker to say why
            os._exit(1)
        print(sentence, file=sys.stderr, flush=True)
        for rank in hanging:
            beat = now.get(rank)
            if beat is not None and (beat.host, beat.launcher) == (socket.gethostname(), os.getppid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(beat.pid, signal.SIGKILL)
        os._exit(1)


def judge(earlier: dict[int, Beat], now: dict[int, Beat], size: int, timeout: float) -> tuple[list[int], str]:
    """Return the ranks that keep the others waiting and the sentence that says so.

    `earlier` and `now` are heartbeats by rank, read some beats apart while nobody came further.
    """
    if size == 1:
        return [], (
            f"no batch came up to the timeout of {timeout:g} s (training.distributed_timeout): a data worker "
            "or the storage hangs; go on with --resume"
        )
    silent = [
        rank
        for rank in range(size)
        if rank not in now or (rank in earlier and earlier[rank].count == now[rank].count)
    ]
    if silent:
        names = ", ".join(_name(rank, earlier.get(rank)) for rank in silent)
        return silent, (
            f"no heartbeat of {names} while the others waited for it, up to the timeout of {timeout:g} s: "
            "the process is stopped or dead, or its node is gone; go on with --resume"
        )
    first = min(beat.place() for beat in now.values())
    behind = [rank for rank, beat in now.items() if beat.place() == first]
    if len(behind) < size:
        names = ", ".join(_name(rank, now[rank]) for rank in behind)
        return behind, (
            f"{names} keeps the others waiting, up to the timeout of {timeout:g} s; go on with --resume"
        )
    return [], (
        f"no rank came further than step {now[0].step} ({now[0].part}) up to the timeout of {timeout:g} s "
        "and all are alive: the network between them, or training.distributed_timeout is too short; "
        "go on with --resume"
    )


def _name(rank: int, beat: Beat | None) -> str:
    if beat is None:
        return f"rank {rank}"
    return f"rank {rank} (host {beat.host}, process {beat.pid}, step {beat.step}, {beat.part})"
