"""Threads: how many PyTorch's calls take, and work on a processor's cores side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_LOOK = 0.05
"""Seconds between two looks at whether a thread has ended."""


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Give each of PyTorch's calls so many threads, here and in threads that begin within."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def over_threads(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None
) -> list[Result]:
    """Return `function` of every item, in order, by `threads` threads (default: as many as PyTorch may use).

    It gains where the function needs Python's lock little. In each thread PyTorch's calls start no further
    ones, which would only wait.
    """
    threads = min(threads or torch.get_num_threads(), len(items))
    if threads <= 1:
        return [function(item) for item in items]
    size = -(-len(items) // threads)
    shares = [items[first : first + size] for first in range(0, len(items), size)]
    with torch_threads(1):
        parts = list(_pool(threads).map(lambda share: [function(item) for item in share], shares))
    return [result for part in parts for result in part]


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    """Yield items that a thread of its own makes, at most `most` ahead of who takes them.

    What it raises is raised here, after the items before it. Once nobody takes them any more (the iterator is
    closed) the thread ends with the item at which it is, and closes what makes them.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(most)
    unwanted = threading.Event()

    def make() -> None:
        try:
            for item in (source := iter(items)):
                ready.put((True, item))
                if unwanted.is_set():
                    break
            if isinstance(source, Generator):
                source.close()
            ready.put((False, None))
        except BaseException as error:  # it is for the thread that takes the items to say
            ready.put((False, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (made := ready.get())[0]:
            yield made[1]
        if made[1] is not None:
            raise made[1]
    finally:
        unwanted.set()
        while thread.is_alive():
            with suppress(queue.Empty):
                ready.get(timeout=_LOOK)
