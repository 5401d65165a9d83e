"""Worker processes that decode: requests go out, batches come back in order, and a death is one sentence.

A batch comes in memory of its own, whose descriptor travels through the worker's socket: it needs no room in
/dev/shm and no folder for sockets. Nothing is shared among workers that one could leave locked by its death.
"""

from __future__ import annotations

import atexit
import mmap
import multiprocessing
import os
import signal
import struct
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.extras import named_extras
from cacl.processes import STOPPING, end_with_parent, held_signals
from cacl.types import Batch
from shards.decoders.clip import ClipReader, Request

Decode = Callable[[ClipReader, Request], Batch]

_PREFETCHED_BATCHES = 2
"""Requests that a worker has at a time."""
_ALIGNMENT = 64
"""Bytes; where a tensor begins in a batch's memory."""
_NAMED_CLIPS = 100
"""Clips of a batch that a sentence names."""
_NONE = -1
_BORN = "born"
_BIRTHS, _BIRTH_SECONDS = 6, 5.0
"""How often a worker is started that does not say its first word, and how long that may take."""


def decode_in_workers(
    decode: Decode, reader: ClipReader, requests: Iterable[Request], workers: int
) -> Iterator[Batch]:
    """Yield `decode(reader, request)` for every request, in their order, made by so many processes.

    They end with the iterator, however that ends, and with this process. Raises UserError where one of them
    dies, naming the clips that it held, and what `decode` raises.
    """
    asked, waiting = iter(requests), deque[_Worker]()
    pool = _Pool(decode, reader, workers)
    try:
        for worker in [*pool.workers] * _PREFETCHED_BATCHES:
            waiting.extend(worker.ask(asked))
        while waiting:
            worker = waiting.popleft()
            pool.wait_for(worker)
            answer = worker.receive()
            waiting.extend(worker.ask(asked))
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        pool.stop()


class _Pool:
    def __init__(self, decode: Decode, reader: ClipReader, size: int) -> None:
        atexit.register(self.stop)  # before multiprocessing's own handler, which waits for all children
        self.workers: list[_Worker] = []
        for _ in range(size):
            self.workers.append(_Worker(decode, reader))

    def wait_for(self, worker: _Worker) -> None:
        """Return when `worker` has an answer. Raises UserError as soon as any that holds clips is dead."""
        while True:
            busy = {other.process.sentinel: other for other in self.workers if other.held}
            ready = wait([worker.connection, *busy])
            for sentinel, other in busy.items():
                if sentinel in ready:
                    raise other.death()
            if worker.connection in ready:
                return

    def stop(self) -> None:
        atexit.unregister(self.stop)
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join(1)  # longer only where the kernel waits for a disk that is gone
            worker.connection.close()


class _Worker:
    def __init__(self, decode: Decode, reader: ClipReader) -> None:
        self.reader = reader
        self.held: deque[Request] = deque()
        self.reading = mmap.mmap(-1, 8)  # survives its writer
        self.reading[:] = struct.pack("q", _NONE)
        for _ in range(_BIRTHS):
            self._start(decode)
            if self.connection.poll(_BIRTH_SECONDS):  # its first word, or its death, which is told when asked
                with suppress(EOFError):
                    self.connection.recv()
                return
            self.process.kill()
            self.process.join()
            self.connection.close()
        raise UserError(
            f"no data worker has come to life in {_BIRTHS} times {_BIRTH_SECONDS:g} s; take fewer "
            "data.workers, or a less busy machine",
            exit_code=1,
        )

    def _start(self, decode: Decode) -> None:
        """Fork: the reader knows millions of clips, which need not be copied.

        A fork takes along locks that other threads hold just then. Before Python 3.11.10 it may wait for one
        of Python's own for ever (gh-112275), as it may for one of a library's.
        """
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, decode, _Watched(self.reader, self.reading), os.getpid())
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with held_signals():
            self.process.start()
        theirs.close()

    def ask(self, requests: Iterator[Request]) -> Iterator[_Worker]:
        """Send the next request, and yield this worker, which holds it then; nothing where there is none."""
        request = next(requests, None)
        if request is None:
            return
        self.held.append(request)
        try:
            self.connection.send(request)
        except OSError:
            raise self.death() from None
        yield self

    def receive(self) -> Batch | Exception:
        """Return the batch of the oldest request, or what was raised in its place."""
        try:
            answer = self.connection.recv()
            if not isinstance(answer, Exception):
                answer = _receive_tensors(self.connection, *answer)
        except (EOFError, OSError):
            raise self.death() from None
        self.held.popleft()
        return answer

    def death(self) -> UserError:
        """Return the sentence that says how it died, and on which clips."""
        self.process.join(1)
        code = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        (clip,) = struct.unpack("q", self.reading[:])
        where = f" while it read clip {clip} ({self.reader.where(clip)})" if clip != _NONE else ""
        indices = np.concatenate([request.index for request in self.held]).tolist()
        more = f" and {len(indices) - _NAMED_CLIPS} more" if len(indices) > _NAMED_CLIPS else ""
        return UserError(
            f"a data worker (process {self.process.pid}) {how}{where}; it held the clips "
            f"{', '.join(map(str, indices[:_NAMED_CLIPS]))}{more}: where memory ran out take fewer "
            "data.workers, where a decoder crashes pack again without that clip; then run again, a training "
            "with --resume",
            exit_code=1,
        )


class _Watched:
    """A reader that notes which clip it reads where the parent sees it."""

    def __init__(self, reader: ClipReader, reading: mmap.mmap) -> None:
        self.reader, self.reading = reader, reading

    def read(self, index: int) -> Mapping[str, bytes]:
        self.reading[:] = struct.pack("q", index)
        return self.reader.read(index)

    def prefetch(self, indices: np.ndarray) -> None:
        self.reader.prefetch(indices)

    def where(self, index: int) -> str:
        return self.reader.where(index)


def _serve(connection: Connection, decode: Decode, reader: _Watched, parent: int) -> None:
    """Answer requests until the parent kills this process, or is gone.

    What launchers send to all processes of a job is ignored: a worker that died of it would end the run
    before its checkpoint.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return
    torch.set_num_threads(1)
    connection.send(_BORN)
    while True:
        request = connection.recv()
        try:
            with named_extras():
                _send(connection, decode(reader, request))
        except UserError as error:
            connection.send(error)
        except OSError as error:
            connection.send(_of_storage(error))
        except Exception:
            connection.send(RuntimeError(f"in a data worker:\n{traceback.format_exc()}"))
        reader.reading[:] = struct.pack("q", _NONE)


def _of_storage(error: OSError) -> UserError:
    where = error.filename or "reading clips or handing them over"
    return UserError(
        f"{where}: {error.strerror or error}; mend the storage or make room, then run again, a training with "
        "--resume",
        exit_code=1,
    )


Place = tuple[str, torch.dtype, torch.Size, int]
"""Field of the batch, dtype, shape and first byte of a tensor."""


def _send(connection: Connection, batch: Batch) -> None:
    """Send a batch: plain values and places of tensors first, then the memory that holds the tensors."""
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    places: list[Place] = []
    descriptor = os.memfd_create("batch")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            for name, tensor in tensors.items():
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places.append((name, tensor.dtype, tensor.shape, file.tell()))
                file.write(tensor.contiguous().numpy().reshape(-1).view(np.uint8).data)
        without: dict[str, Any] = dict.fromkeys(tensors)
        connection.send((replace(batch, **without), places))
        send_handle(connection, descriptor, os.getppid())
    finally:
        os.close(descriptor)


def _receive_tensors(connection: Connection, rest: Batch, places: list[Place]) -> Batch:
    """Return the batch whose plain values are `rest`; its tensors lie in the memory that the worker wrote."""
    descriptor = recv_handle(connection)
    try:
        size = os.fstat(descriptor).st_size
        memory = mmap.mmap(descriptor, size) if size else b""
    finally:
        os.close(descriptor)
    tensors: dict[str, Any] = {}
    for name, dtype, shape, start in places:
        count = shape.numel()
        tensors[name] = (
            torch.frombuffer(memory, dtype=dtype, count=count, offset=start).view(shape)
            if count
            else torch.empty(shape, dtype=dtype)
        )
    return replace(rest, **tensors)
