"""VGGSound: raw clips `<youtube id>_<start, six digits>.mp4` and the data set's own `vggsound.csv`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from cacl.errors import UserError
from shards.sources import media
from shards.sources.lists import Pick, is_name, read_rows
from shards.sources.video import Moment
from shards.sources.youtube import YoutubeSource

FRAME_AT = 5.0
"""Seconds; the frame on which the boxes of VGG-SS were drawn (frame 125 at 25 a second)."""


@dataclass(frozen=True)
class VggSound(YoutubeSource):
    """Ten-second clips <youtube id>_<start, six digits>.mp4 and their classes."""

    name: ClassVar[str] = "vggsound"

    csv: Path | None = field(default=None, metadata={"help": "the table; default: ROOT/vggsound.csv"})
    split: Literal["train", "test", "all"] = field(default="train", metadata={"help": "rows of the table"})
    frame_at: float = field(default=FRAME_AT, metadata={"help": "seconds from the clip's start to its frame"})

    leave_out_still: bool = field(
        default=False,
        metadata={"help": "reject films in which nothing moves, but for test rows and films with boxes"},
    )

    def all_ids(self) -> list[str]:
        """Return the ids of the table's split."""
        return [row.id for row in self._rows() if self.split in ("all", row.split)]

    def label(self, name: str) -> str:
        """Return the clip's class, where the table has it; a list can do without a table."""
        if self.csv is None and not self._table().exists():
            return ""
        return _labels(self._table()).get(name, "")

    def measured(self, pick: Pick) -> bool:
        """Say whether models are measured on a clip: the table's test rows too."""
        return super().measured(pick) or pick.video in _tested(self._table())

    def needs(self, pick: Pick) -> media.Needs:
        """Return what a clip must have; that it moves if asked for."""
        needs = super().needs(pick)
        return needs if self.measured(pick) else needs._replace(moving=self.leave_out_still)

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


@lru_cache(maxsize=2)
def _tested(path: Path) -> frozenset[str]:
    """Return the ids of the test rows of a table, none where there is no table."""
    rows = read_table(path) if path.exists() else []
    return frozenset(row.id for row in rows if row.split == "test")
