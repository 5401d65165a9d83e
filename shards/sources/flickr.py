"""Flickr-SoundNet: frames and audio in its own layout or the field's, and XML boxes of the test clips."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from cacl.annotation import SoundSource
from shards.sources import media
from shards.sources.boxes import flickr_boxes
from shards.sources.files import FileSource
from shards.sources.folders import files_below, left_out
from shards.sources.lists import Pick
from shards.sources.pairs import prepared_ids, prepared_left_out
from shards.sources.video import Moment

_RECORDINGS = (".wav", ".mp3")
"""Endings in `Data/`; of a clip that has both the first is read."""


@dataclass(frozen=True)
class Flickr(FileSource):
    """Data/<id>.jpg and .wav or .mp3, or frames/<id>.jpg and audio/<id>.wav; for a test list <id>.xml."""

    name: ClassVar[str] = "flickr"

    boxes: Path | None = field(
        default=None,
        metadata={"help": "folder of <id>.xml, or a JSON; with it every clip must have its boxes"},
    )

    def all_ids(self) -> list[str]:
        """Return the union of the ids of frames and recordings."""
        if not self._own_layout:
            return prepared_ids(self.root)
        return sorted({path.stem for path in self._data.iterdir() if path.suffix in (".jpg", *_RECORDINGS)})

    def is_there(self, name: str) -> bool:
        """Return whether a clip has a file, in either layout."""
        if not self._own_layout:
            return super().is_there(name)
        files = (media.in_any_form(self._data, name + end) for end in (".jpg", *_RECORDINGS))
        return any(map(os.path.exists, files))

    @property
    def _data(self) -> Path:
        return self.root / "Data"

    @property
    def _own_layout(self) -> bool:
        return self._data.is_dir() and not (self.root / "frames").is_dir()

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
        if not self._own_layout:
            return [*super().remarks(), *prepared_left_out(self.root)]
        others = (path for path in files_below(self._data) if path.suffix not in (".jpg", *_RECORDINGS))
        return [*super().remarks(), *left_out(self.root, others, "neither Data/<id>.jpg nor a recording")]

    def moment(self, pick: Pick) -> Moment:
        """Read the two files of one id."""
        if not self._own_layout:
            return self.prepared_moment(pick)
        names = [f"Data/{pick.audio}{end}" for end in _RECORDINGS]
        audio = [name for name in names if os.path.exists(media.in_any_form(self.root, name))] or names[:1]
        return self.pair_moment(pick, f"Data/{pick.video}.jpg", audio[0])
