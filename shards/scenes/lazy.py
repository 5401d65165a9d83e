"""Instances that are made when they are asked for: public sets have hundreds of thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from shards.clip import Array
from shards.scenes.collections import Instance


class Lazy(Sequence[Instance]):
    """The instances that `get` gives at `positions` [n] int64."""

    def __init__(self, get: Callable[[int], Instance], positions: Array) -> None:
        self.get, self.positions = get, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Instance]:
        return (self.get(position) for position in self.positions.tolist())

    @overload
    def __getitem__(self, key: int) -> Instance: ...
    @overload
    def __getitem__(self, key: slice) -> Lazy: ...
    def __getitem__(self, key: int | slice) -> Instance | Lazy:
        if isinstance(key, slice):
            return Lazy(self.get, self.positions[key])
        return self.get(int(self.positions[key]))
