"""VGGSound: raw clips `<youtube id>_<start, six digits>.mp4` and the data set's own `vggsound.csv`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from cacl.errors import UserError
from shards.sources.files import FileSource
from shards.sources.lists import Pick, is_name, read_rows
from shards.sources.video import Moment

FRAME_AT = 5.0
"""Seconds; the frame on which the boxes of VGG-SS were drawn (frame 125 at 25 a second)."""


@dataclass(frozen=True)
class VggSound(FileSource):
    """Ten-second clips <youtube id>_<start, six digits>.mp4 and their classes."""

    name: ClassVar[str] = "vggsound"

    csv: Path | None = field(default=None, metadata={"help": "the table; default: ROOT/vggsound.csv"})
    split: Literal["train", "test", "all"] = field(default="train", metadata={"help": "rows of the table"})
    frame_at: float = field(default=FRAME_AT, metadata={"help": "seconds from the clip's start to its frame"})

    def all_ids(self) -> list[str]:
        """Return the ids of the table's split."""
        return [row.id for row in self._rows() if self.split in ("all", row.split)]

    def label(self, name: str) -> str:
        """Return the clip's class, where the table has it; a list can do without a table."""
        if self.csv is None and not self._table().exists():
            return ""
        return _labels(self._table()).get(name, "")

    def moment(self, pick: Pick) -> Moment:
        """Decode the clip's file."""
        return self.video_moment(pick, self.frame_at)

    def _table(self) -> Path:
        return self.csv or self.root / "vggsound.csv"

    def _rows(self) -> list[Row]:
        return read_table(self._table())


@dataclass(frozen=True)
class Row:
    """A row of `vggsound.csv`."""

    id: str
    label: str
    split: str


@lru_cache(maxsize=2)
def read_table(path: Path) -> list[Row]:
    """Read `vggsound.csv`: youtube_id,start_second,label,split, with or without that header."""
    rows = read_rows(path)
    if rows and rows[0][0] == "youtube_id":
        rows = rows[1:]
    found = []
    for row in rows:
        if len(row) != 4 or not is_second(row[1]) or row[3] not in ("train", "test") or not is_name(row[0]):
            raise UserError(f"{path}: {','.join(row)!r} is not youtube_id,start_second,label,split")
        found.append(Row(f"{row[0]}_{int(row[1]):06d}", row[2], row[3]))
    return found


def is_second(text: str) -> bool:
    """Say whether `text` is a start of at most six digits."""
    return text.isdecimal() and len(text) <= 6


@lru_cache(maxsize=2)
def _labels(path: Path) -> dict[str, str]:
    return {row.id: row.label for row in read_table(path)}
