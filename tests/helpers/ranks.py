"""Run a function on several real processes that talk over gloo; pools are kept for the whole test session."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
TIME_LIMIT = 240.0
"""Seconds for one answer: far more than a busy machine needs, less than the limit of a test."""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "torch.distributed"])
_pools: dict[int, _Pool] = {}


def run_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return `[function(world, *arguments) on rank 0, rank 1, ...]`. `function` lives at a module's top level."""
    if size not in _pools:
        _pools[size] = _Pool(size)
    return _pools[size].run(function, arguments)


class _Pool:
    def __init__(self, size: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.pipes, self.processes = [], []
        for rank in range(size):
            here, there = _context.Pipe()
            arguments = (rank, size, os.path.join(self.folder.name, "store"), there)
            process = _context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        atexit.register(self.close)

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
        for pipe in self.pipes:
            _send(pipe, (function, arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(TIME_LIMIT):
                self.close()
                raise TimeoutError(f"rank {rank} of {len(self.pipes)} did not answer in {TIME_LIMIT:.0f} s")
            answers.append(_receive(pipe))
        errors = [f"rank {rank}: {text}" for rank, (text, _) in enumerate(answers) if text]
        if errors:
            self.close()
            raise AssertionError("\n".join(errors))
        return [value for _, value in answers]

    def close(self) -> None:
        _pools.pop(len(self.processes), None)
        for process in self.processes:
            process.kill()
        self.folder.cleanup()


def _send(pipe: Any, message: Any) -> None:
    """Send by value: `pipe.send` shares every tensor by a file that stays open, of which a shell allows 1,024."""
    pipe.send_bytes(pickle.dumps(message))


def _receive(pipe: Any) -> Any:
    return pickle.loads(pipe.recv_bytes())


def _serve(rank: int, size: int, store: str, pipe: Any) -> None:
    import torch
    import torch.distributed as dist

    from cacl.world import World

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    world = World(rank, size)
    while True:
        try:
            function, arguments = _receive(pipe)
        except EOFError:
            return
        try:
            _send(pipe, ("", function(world, *arguments)))
        except BaseException:
            _send(pipe, (traceback.format_exc(), None))
