"""Which storages stand for some of the device: one mark for a tensor and all its views."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


@dataclass(frozen=True)
class Place:
    """Where a storage is taken to lie."""

    on_device: bool = False
    pinned: bool = False
    """Memory of the host that the device copies to and from by itself."""
    arrives: int = 0
    """Number of the copy to the host that fills it; see `DeviceFlow.landed`."""

    def __str__(self) -> str:
        return "device" if self.on_device else "host"


HOST = Place()

_marks: dict[int, tuple[StorageWeakRef, Place]] = {}
"""By the address of a storage, which is not given away again as long as there is a weak reference to it.

One for all flows: what a module keeps for later (`lru_cache`) stays where it is.
"""
_next_cleaning = 10_000


def place_of(tensor: Tensor) -> Place:
    """Return where a tensor lies: on the host unless it was marked."""
    mark = _marks.get(tensor.untyped_storage()._cdata)
    return HOST if mark is None else mark[1]


def is_marked(tensor: Tensor) -> bool:
    """Say whether anything is known of a tensor's storage."""
    return tensor.untyped_storage()._cdata in _marks


def mark(tensor: Tensor, place: Place) -> None:
    """Say where a tensor and all its views lie."""
    global _next_cleaning
    storage = tensor.untyped_storage()
    _marks[storage._cdata] = (StorageWeakRef(storage), place)
    if len(_marks) > _next_cleaning:
        for address in [address for address, (storage, _) in _marks.items() if storage.expired()]:
            del _marks[address]
        _next_cleaning = max(10_000, 2 * len(_marks))
