"""VGGSound-Duet and MUSIC-Duet: clips in which two sources sound, both in view.

The lists and boxes are those of stoneMo/AVGN. A duet of VGG-Sound is made of two clips, a duet of MUSIC is
played by two people in one film.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from cacl.annotation import Box, SoundSource
from cacl.errors import UserError, brief
from cacl.media.sound import within_one
from shards.clip import Clip, Rejection
from shards.sources import media
from shards.sources.lists import Pick, is_name, read_rows
from shards.sources.media import Recording
from shards.sources.published import PublishedSet, four_numbers, located, read_json
from shards.sources.vggss import VggSs
from shards.sources.video import Moment
from shards.youtube import youtube_video

_PAIRS, _DUETS = "vggsound_duet_test.csv", "music_duet.json"
_PAIRS_FIX = "give vggsound_duet_test.csv with --pairs, rows of file,class,file,class"
_DUETS_FIX = "give music_duet.json with --boxes, a list of file, class_src1, bbox_src1, class_src2, bbox_src2"
_IN_FILM = re.compile(r"(?P<film>.+)_\d{3}_(?P<second>\d{5})", re.ASCII)
"""A name of MUSIC-Duet: film, number of a part, second of the frame in the film."""


@dataclass(frozen=True)
class VggSoundDuet(VggSs):
    """Pairs of clips of VGG-SS: the second picture to the right of the first, their sounds added."""

    name: ClassVar[str] = "vggsound-duet"

    pairs: Path | None = field(default=None, metadata={"help": f"the pairs; default: ROOT/{_PAIRS}"})

    def all_ids(self) -> list[str]:
        """Return `<first>+<second>` for each pair."""
        path = self.pairs or self.root / _PAIRS
        if not path.exists():
            raise UserError(f"{path}: there is no such file; {_PAIRS_FIX}")
        rows = read_rows(path)
        for number, row in enumerate(rows, start=1):
            if len(row) != 4 or not (is_name(row[0]) and is_name(row[2])):
                raise UserError(f"{path}: row {number}: {','.join(row)!r} is no pair; {_PAIRS_FIX}")
        return [f"{first}+{second}" for first, _, second, _ in rows]

    def names(self) -> set[str]:
        """Return the clips that pairs are made of."""
        return {half for name in super().names() for half in name.split("+")}

    def group(self, id: str) -> str:
        """Return the film of the first picture."""
        first = id.partition("+")[0]
        return youtube_video(first) or first

    def drawn(self, pick: Pick) -> tuple[SoundSource, ...]:
        """Return both sources, each in its half of the picture."""
        halves = [super(VggSoundDuet, self).drawn(_alone(half)) for half in _halves(pick.video)]
        return tuple(_moved(one, side) for side, found in enumerate(halves) for one in found or ())

    def moment(self, pick: Pick) -> Moment:
        """Decode both clips; each picture is made a square, as wide as the half that it fills."""
        moments = [super(VggSoundDuet, self).moment(_alone(half)) for half in _halves(pick.video)]
        side = self.storage.frame_side
        frames = [np.asarray(Image.fromarray(moment.frame).resize((side, side))) for moment in moments]
        first, second = (moment.recording for moment in moments)
        samples = within_one(first.samples + second.samples).astype(np.float32)
        return Moment(np.hstack(frames), Recording(samples, max(first.seconds, second.seconds)))

    def read(self, id: str) -> Clip | Rejection:
        """Decode one duet, which is of no one film."""
        clip = super().read(id)
        return clip if isinstance(clip, Rejection) else replace(clip, film=None)


@dataclass(frozen=True)
class MusicDuet(PublishedSet):
    """Films of two who play: frames/<film>_<part>_<second>.jpg, audio/<film>.wav and music_duet.json."""

    name: ClassVar[str] = "music-duet"

    boxes: Path | None = field(
        default=None, metadata={"help": f"classes and boxes of both; default: ROOT/{_DUETS}"}
    )

    @property
    def box_file(self) -> Path | None:
        """None: the file is of a form of its own."""
        return None

    @property
    def table(self) -> Path:
        """The file of classes and boxes. Raises UserError where none is named and none lies there."""
        found = self.boxes or self.root / _DUETS
        if self.boxes is None and not found.exists():
            raise UserError(self.nothing())
        return found

    def all_ids(self) -> list[str]:
        """Return the frames that have boxes."""
        return list(_duets(self.table))

    def picture(self, name: str) -> str:
        """Return a frame's file."""
        return f"frames/{name}.jpg"

    def recording(self, name: str) -> str:
        """Return the sound of a frame's film, or of its part."""
        part = f"audio/{name}.wav"
        whole = self.film_of(name)
        return part if whole is None or (self.root / part).exists() else f"audio/{whole}.wav"

    def film_of(self, name: str) -> str | None:
        """Return the film of a frame."""
        found = _IN_FILM.fullmatch(name)
        return found and found["film"]

    def time(self, name: str) -> float | None:
        """Return the second of the frame that its name tells, in a sound that is the whole film's."""
        found = _IN_FILM.fullmatch(name)
        whole = found and self.recording(name) == f"audio/{found['film']}.wav"
        return float(found["second"]) if found and whole else None

    def truth(self, name: str) -> tuple[SoundSource, ...]:
        """Return both who play."""
        found = _duets(self.table).get(name)
        if found is None:
            raise media.BrokenMedia(f"missing: {self.table.name} has no boxes for it")
        return tuple(located(class_name, box) for class_name, box in found)


@lru_cache(maxsize=2)
def _duets(path: Path) -> dict[str, list[tuple[str, Box]]]:
    """Return class and corners of both sources of each frame. Raises UserError where the file is malformed.

    The file has corner, width and height, as shares of the frame; AVGN's evaluator reads two corners.
    """
    entries = read_json(path, _DUETS_FIX)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: is no list of frames; {_DUETS_FIX}")
    found: dict[str, list[tuple[str, Box]]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: frame {number}"
        name = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not is_name(name) or name in found:
            raise UserError(f"{where}: file: {brief(name)} is no name, or stands there twice; {_DUETS_FIX}")
        found[name] = []
        for one in ("1", "2"):
            x, y, width, height = four_numbers(entry, f"bbox_src{one}", where, _DUETS_FIX)
            label = str(entry.get(f"class_src{one}", "")).replace("_", " ")
            found[name].append((label, (x, y, x + width, y + height)))
    return found


def _halves(name: str) -> tuple[str, ...]:
    """Return both clips of a pair. Raises media.BrokenMedia where a list names something else."""
    halves = tuple(name.split("+"))
    if len(halves) != 2:
        raise media.BrokenMedia("missing: a list of duets names <first>+<second>")
    return halves


def _alone(name: str) -> Pick:
    return Pick(name, name, name)


def _moved(source: SoundSource, side: int) -> SoundSource:
    """Return a source where it is in the joined picture: `side` 0 left, 1 right.

    Some boxes of VGG-SS leave their picture, and must not reach into the other one.
    """
    within = [[min(max(edge, 0.0), 1.0) for edge in box] for box in source.boxes or ()]
    boxes = tuple(((x0 + side) / 2, y0, (x1 + side) / 2, y1) for x0, y0, x1, y1 in within)
    return replace(source, boxes=None if source.boxes is None else boxes, mask=None)
