"""VGG-SS: the annotated test clips of VGGSound, frame 5 s in, boxes of `vggss.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from cacl.annotation import SoundSource, join_boxes
from shards.sources import media
from shards.sources.boxes import read_boxes
from shards.sources.lists import Pick
from shards.sources.vggsound import FRAME_AT
from shards.sources.video import Moment
from shards.sources.youtube import YoutubeSource


@dataclass(frozen=True)
class VggSs(YoutubeSource):
    """Raw clips <id>.mp4, or frames/<id>.jpg and audio/<id>.wav, and the boxes of vggss.json."""

    name: ClassVar[str] = "vggss"

    boxes: Path | None = field(default=None, metadata={"help": "the annotations; default: ROOT/vggss.json"})

    def all_ids(self) -> list[str]:
        """Return the ids of the annotations."""
        return list(read_boxes(self.box_file))

    @property
    def box_file(self) -> Path:
        """The annotations."""
        return self.boxes or self.root / "vggss.json"

    @property
    def needs_boxes(self) -> bool:
        """Whatever is measured on VGG-SS needs them."""
        return True

    def drawn(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return class and boxes; none for a pair whose sound has no source in the frame."""
        found = super().drawn(pick)
        if pick.sounding and not join_boxes(source for source in found or () if source.audible):
            raise media.BrokenMedia("no box: there must be one at least")
        return found

    def moment(self, pick: Pick) -> Moment:
        """Decode the official frame and the sound."""
        if not self.tars and (self.root / "frames").is_dir():
            return self.prepared_moment(pick)
        return self.video_moment(pick, FRAME_AT)
