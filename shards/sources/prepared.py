"""Prepared data in the field's layout: `frames/<id>.jpg` and `audio/<id>.wav` under one root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from shards.sources.files import FileSource
from shards.sources.folders import files_below, left_out
from shards.sources.lists import Pick
from shards.sources.video import Moment


@dataclass(frozen=True)
class Prepared(FileSource):
    """Frames and recordings under frames/<id>.jpg and audio/<id>.wav; an id that lacks either is rejected."""

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


def prepared_ids(root: Path) -> list[str]:
    """Return the union of the ids of `frames/*.jpg` and `audio/*.wav`."""
    frames = {path.stem for path in (root / "frames").glob("*.jpg")}
    return list(frames | {path.stem for path in (root / "audio").glob("*.wav")})


def prepared_left_out(root: Path) -> list[str]:
    """Return a sentence on the files below `frames` and `audio` that give no clip."""
    wanted = {(root / "frames", ".jpg"), (root / "audio", ".wav")}
    folders = [folder for folder, _ in sorted(wanted, reverse=True) if folder.is_dir()]
    others = [p for folder in folders for p in files_below(folder) if (p.parent, p.suffix) not in wanted]
    return left_out(root, others, "neither frames/<id>.jpg nor audio/<id>.wav")
