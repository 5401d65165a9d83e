"""Processes that read clips and may die: a file that crashes its decoder costs one clip, not the run."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from cacl.errors import UserError
from cacl.extras import named_extras

Report = Callable[[int], None]
Job = Callable[[int, dict[int, str], Report], Any]
"""job(number, crashed, report) → result; reports every clip before it reads it, leaves out the crashed."""

TIME_LIMIT = 300.0
"""Seconds that one clip may take."""
_TRIES = 2
"""A clip that has killed so many workers is rejected; the first death may have been another's fault."""


@dataclass(frozen=True)
class Reading:
    """Clip `index` is about to be read."""

    index: int


@dataclass(frozen=True)
class Done:
    """Job `number` ended with `result`."""

    number: int
    result: Any


@dataclass(frozen=True)
class _Failed:
    message: str
    is_user_error: bool


class _Worker:
    def __init__(self, job: Job) -> None:
        # Spawned, not forked: no lock or thread of the parent is inherited, and a crash stays in the child.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()
        self.row: deque[int] = deque()
        """Jobs that it does after the present one."""
        self.number: int | None = None
        self.reading: int | None = None
        self.since = time.monotonic()
        self.timed_out = False

    def start(self, row: deque[int], crashed: dict[int, str]) -> None:
        self.row, number = row, row.popleft()
        self.number, self.reading, self.since = number, None, time.monotonic()
        self.connection.send((number, crashed))

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def why_dead(self) -> str:
        self.process.join()
        if self.timed_out:
            return f"timed out: reading it took over {TIME_LIMIT:.0f} s"
        code = self.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"crashed the decoder: {name}"


def run_jobs(job: Job, rows: Iterable[Iterable[int]], workers: int) -> Iterator[Reading | Done]:
    """Run `job` for every number in `workers` processes; yield what they report, in the order of events.

    The numbers of a row are done by one process from first to last, as long as it lives.

    A worker that dies or hangs at a clip is replaced and its job begun again; a clip at which this happened
    twice is handed to the job as crashed. Raises UserError as a job raised it, or when a process ends without
    a clip to blame, and RuntimeError for bugs.
    """
    pending = deque(waiting for row in rows if (waiting := deque(row)))
    deaths, crashed = dict[int, int](), dict[int, str]()
    pool: list[_Worker] = []
    try:
        while pending or pool:
            while pending and len(pool) < workers:
                pool.append(_Worker(job))
                pool[-1].start(pending.popleft(), crashed)
            ready = wait([worker.connection for worker in pool], timeout=1.0)
            for worker in list(pool):
                try:
                    if worker.connection in ready:
                        yield from _receive(worker)
                        if worker.number is None and (worker.row or pending):
                            worker.start(worker.row or pending.popleft(), crashed)
                        elif worker.number is None:
                            pool.remove(worker)
                            worker.stop()
                    elif worker.reading is not None and time.monotonic() - worker.since > TIME_LIMIT:
                        worker.timed_out = True
                        worker.process.kill()
                except (EOFError, ConnectionError):
                    pool.remove(worker)
                    worker.row.appendleft(_blame(worker, deaths, crashed))
                    pending.appendleft(worker.row)
                    worker.stop()
    finally:
        for worker in pool:
            worker.stop()


def _receive(worker: _Worker) -> Iterator[Reading | Done]:
    while worker.connection.poll():
        message = worker.connection.recv()
        worker.since = time.monotonic()
        if isinstance(message, _Failed):
            raise UserError(message.message) if message.is_user_error else RuntimeError(message.message)
        if isinstance(message, Done):
            worker.number = None
        else:
            worker.reading = message.index
        yield message


def _blame(worker: _Worker, deaths: dict[int, int], crashed: dict[int, str]) -> int:
    """Count a death against the clip that was being read; return the job that must begin again."""
    why, index = worker.why_dead(), worker.reading
    if worker.number is None or index is None:
        raise UserError(f"a process ended before it read a clip ({why}); what is finished is kept: run again")
    deaths[index] = deaths.get(index, 0) + 1
    if deaths[index] >= _TRIES:
        crashed[index] = why
    return worker.number


def _serve(connection: Connection, job: Job) -> None:
    """Work off jobs until the parent closes the connection or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            number, crashed = connection.recv()
            try:
                with named_extras():
                    result = job(number, crashed, lambda index: connection.send(Reading(index)))
            except UserError as error:
                connection.send(_Failed(str(error), True))
            except ConnectionError:
                raise
            except OSError as error:
                where = error.filename or "the file system"
                why = f"{where}: {error.strerror or error}; what is finished is kept: mend it and run again"
                connection.send(_Failed(why, True))
            except Exception:
                connection.send(_Failed(traceback.format_exc(), False))
            else:
                connection.send(Done(number, result))
    except (EOFError, ConnectionError):
        return
