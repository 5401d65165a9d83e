"""Work on a processor's cores side by side, for functions that need Python's lock little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def over_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return `function` of every item, in order, by as many threads as PyTorch may use here."""
    allowed = torch.get_num_threads()
    threads = min(allowed, len(items))
    if threads <= 1:
        return [function(item) for item in items]
    size = -(-len(items) // threads)
    shares = [items[first : first + size] for first in range(0, len(items), size)]
    parts = list(_pool(threads).map(lambda share: [function(item) for item in share], shares))
    torch.set_num_threads(allowed)  # new threads of others would take the pool's setting
    return [result for part in parts for result in part]


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads in which PyTorch's calls start none of their own: those would only wait."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
