"""The one interface of everything that can be packed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from shards.clip import Clip, Rejection, Storage


class Run(NamedTuple):
    """Ids in the order of their indices, the first of which begins a shard."""

    ids: list[str]
    streamed: bool = False
    """Whether they are read from first to last, so that one process had better read them all."""


@dataclass(frozen=True)
class Source(ABC):
    """Clips by id. A subclass's fields are the options of `cacl pack NAME`; it is pickled to the workers."""

    name: ClassVar[str]
    shard_size: ClassVar[int] = 25
    """Clips a shard unless the user says otherwise."""

    storage: Storage
    """What is stored of a clip."""

    @abstractmethod
    def ids(self) -> list[str]:
        """Return every id, sorted and without duplicates. A clip's index is its position in `runs`.

        Raises UserError when the source cannot be had or read.
        """

    @abstractmethod
    def read(self, id: str) -> Clip | Rejection:
        """Return one clip, or why it cannot be used.

        Raises OSError when the storage fails, which is not the clip's fault.
        """

    def settled(self) -> Source:
        """Return the source with what it had to look for to know its ids, for processes that only read.

        Raises UserError as `ids` does.
        """
        return self

    @property
    def order(self) -> str:
        """What indices follow: `sorted` ids, or `part-member`, archives and their members."""
        return "sorted"

    def runs(self) -> list[Run]:
        """Return every id in the order of its index: one run, unless a source is read part by part.

        Raises UserError as `ids` does.
        """
        return [Run(self.ids())]

    def approach(self, id: str, tick: Callable[[], None]) -> None:  # noqa: B027  # nothing lies before most
        """Read on to where a clip lies, which may take longer than any clip; call `tick` now and then."""

    def check_files(self) -> None:  # noqa: B027  # what is made has no files
        """Raise UserError where nothing lies of what the ids name, before all of them are rejected for it."""

    def group(self, id: str) -> str:
        """Return what a clip shares with those that must stay on its side of a cut, such as its film.

        The id itself where nothing of the kind is known.
        """
        return id

    def remarks(self) -> list[str]:
        """Return what a person should hear of the source after packing, a sentence each."""
        return []

    def parameters(self) -> dict[str, Any]:
        """Return what decides over the content beside the files, as plain values without paths."""
        plain = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Storage):
                value = dict(vars(value))
            # Which files a list or a table names is in the ids and in the content.
            if not isinstance(value, (Path, tuple)):
                plain[field.name] = value
        return plain if self.order == "sorted" else {**plain, "order": self.order}
