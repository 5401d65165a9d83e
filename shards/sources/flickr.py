"""Flickr-SoundNet: frames and audio in the field's layout, and for the test clips XML boxes of annotators."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from cacl.annotation import SoundSource
from shards.sources import media
from shards.sources.boxes import flickr_boxes
from shards.sources.files import FileSource
from shards.sources.lists import Pick
from shards.sources.prepared import prepared_ids, prepared_left_out
from shards.sources.video import Moment


@dataclass(frozen=True)
class Flickr(FileSource):
    """Frames, recordings and boxes under frames/<id>.jpg, audio/<id>.wav and, for a test list, <id>.xml."""

    name: ClassVar[str] = "flickr"

    boxes: Path | None = field(
        default=None,
        metadata={"help": "folder of <id>.xml, or a JSON; with it every clip must have its boxes"},
    )

    def all_ids(self) -> list[str]:
        """Return the union of the ids of frames and recordings."""
        return prepared_ids(self.root)

    @property
    def box_file(self) -> Path | None:
        """The JSON of boxes, if they are in one."""
        return None if self.boxes is None or self.boxes.is_dir() else self.boxes

    @property
    def needs_boxes(self) -> bool:
        """With boxes every clip must have them."""
        return self.boxes is not None

    def drawn(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return the boxes of all annotators; none for a pair whose sound has no source in the frame."""
        if self.boxes is None or self.box_file is not None or not pick.sounding:
            return super().drawn(pick)
        path = self.boxes / f"{pick.video}.xml"
        with media.blame(path.name):
            return (SoundSource(boxes=flickr_boxes(media.read_bytes(path))),)

    def remarks(self) -> list[str]:
        """Return sentences on boxes that name no clip, and on files that belong to none."""
        return [*super().remarks(), *prepared_left_out(self.root)]

    def moment(self, pick: Pick) -> Moment:
        """Read the two files of one id."""
        return self.prepared_moment(pick)
