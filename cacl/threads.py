"""Threads: how many PyTorch's calls take, and work on a processor's cores side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


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
