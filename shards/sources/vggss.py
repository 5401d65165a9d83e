"""VGG-SS: the annotated test clips of VGGSound, frame 5 s in, boxes of `vggss.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from cacl.errors import UserError
from shards.sources import media
from shards.sources.boxes import checked_boxes
from shards.sources.files import FileSource
from shards.sources.lists import Pick, is_name
from shards.sources.vggsound import FRAME_AT
from shards.sources.video import Moment


@dataclass(frozen=True)
class VggSs(FileSource):
    """Raw clips <id>.mp4, or frames/<id>.jpg and audio/<id>.wav, and the boxes of vggss.json."""

    name: ClassVar[str] = "vggss"

    boxes: Path | None = field(default=None, metadata={"help": "the annotations; default: ROOT/vggss.json"})

    def all_ids(self) -> list[str]:
        """Return the ids of the annotations."""
        return list(self._annotations())

    def annotation(self, pick: Pick) -> dict[str, Any]:
        """Return class and boxes; none for a pair whose sound has no source in the frame."""
        if not pick.sounding:
            return {"boxes": []}
        found = self._annotations().get(pick.video)
        if found is None:
            raise media.BrokenMedia("missing: vggss.json has no boxes for it")
        return {"class_name": found[0], "boxes": checked_boxes(found[1])}

    def moment(self, pick: Pick) -> Moment:
        """Decode the official frame and the sound."""
        if (self.root / "frames").is_dir():
            return self.prepared_moment(pick)
        return self.video_moment(pick, FRAME_AT)

    def _annotations(self) -> dict[str, tuple[str, list[Any]]]:
        return read_annotations(self.boxes or self.root / "vggss.json")


@lru_cache(maxsize=2)
def read_annotations(path: Path) -> dict[str, tuple[str, list[Any]]]:
    """Return id → (class, boxes) of `vggss.json`. Raises UserError where it is not that."""
    try:
        entries = json.loads(path.read_bytes())
        found = {entry["file"]: (str(entry["class"]), entry["bbox"]) for entry in entries}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; name the annotations with --boxes") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a list of file, class and bbox ({error!r})") from None
    if len(found) != len(entries) or not all(map(is_name, found)):
        raise UserError(f"{path}: a file stands there twice or is no name")
    return found
