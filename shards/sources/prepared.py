"""Prepared data: pictures `frames/<id>` and recordings `audio/<id>`, or both side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shards.sources.files import FileSource
from shards.sources.lists import Pick
from shards.sources.pairs import prepared_ids, prepared_left_out
from shards.sources.video import Moment


@dataclass(frozen=True)
class Prepared(FileSource):
    """Pictures frames/<id>.jpg (or .png ...) and recordings audio/<id>.wav (or .mp3 ...), or side by side."""

    name: ClassVar[str] = "prepared"
    shard_size: ClassVar[int] = 25

    def all_ids(self) -> list[str]:
        """Return the union of the ids of frames and recordings."""
        return prepared_ids(self.root)

    def remarks(self) -> list[str]:
        """Return sentences on boxes that name no clip, and on files that belong to none."""
        return [*super().remarks(), *prepared_left_out(self.root)]

    def moment(self, pick: Pick) -> Moment:
        """Read the two files of one id."""
        return self.prepared_moment(pick)
