"""What the sources that read a user's files have in common: lists, duplicates, and why a clip is rejected."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from cacl.errors import UserError
from shards.clip import STORAGE, Clip, Rejection, Storage
from shards.cut import youtube_video
from shards.sources import media
from shards.sources.base import Source
from shards.sources.lists import Pick, read_list
from shards.sources.video import Moment, Window, read_video


@dataclass(frozen=True)
class FileSource(Source):
    """Clips out of files under a root, all of them or those of a list."""

    shard_size: ClassVar[int] = 100

    root: Path = field(default=Path(), metadata={"help": "folder of the files", "required": True})
    lists: tuple[Path, ...] = field(
        default=(),
        metadata={"option": "--list", "help": "files of ids, or of pairs video,audio,label; default: all"},
    )
    shortest: float = field(default=1.0, metadata={"help": "seconds of sound that a clip must have"})
    storage: Storage = STORAGE

    @abstractmethod
    def all_ids(self) -> list[str]:
        """Return the ids that there are without a list, in any order; one twice is a duplicate."""

    @abstractmethod
    def moment(self, pick: Pick) -> Moment:
        """Decode frame and sound. Raises media.BrokenMedia."""

    def annotation(self, pick: Pick) -> dict[str, Any]:
        """Return what is known of a clip. Raises media.BrokenMedia when that is unusable."""
        return {}

    def film(self, name: str) -> str:
        """Return the file that the clip `name` is a part of."""
        return name

    def group(self, id: str) -> str:
        """Return the film that the clip's frame is of: the YouTube video where a name says which."""
        film = self.film(_picks(self)[id][0].video)
        return youtube_video(film) or film

    def ids(self) -> list[str]:
        """Return the listed ids, or all. Raises UserError when there is no root, no id or one of no text."""
        if not self.root.is_dir():
            raise UserError(f"--root {self.root}: is not a folder")
        for id in _picks(self):
            if id.encode(errors="ignore").decode() != id:
                raise UserError(f"--root {self.root}: the file name {id!a} is not UTF-8; rename it")
        return sorted(_picks(self))

    def read(self, id: str) -> Clip | Rejection:
        """Decode one clip."""
        pick, count = _picks(self)[id]
        if count > 1:
            return Rejection(id, f"duplicate id: it stands {count} times in the source")
        try:
            known = self.annotation(pick)
            moment = self.moment(pick)
        except media.BrokenMedia as error:
            return Rejection(id, str(error), error.file)
        if moment.frame_seconds is not None:
            known["frame_seconds"] = round(moment.frame_seconds, 6)
        known["seconds"] = round(moment.recording.seconds, 6)
        if not pick.sounding:
            known["sounding"] = False
        return Clip(id, moment.frame, moment.recording.samples, known)

    def prepared_moment(self, pick: Pick) -> Moment:
        """Read `frames/<id>.jpg` and `audio/<id>.wav`."""
        frame, audio = f"frames/{pick.video}.jpg", f"audio/{pick.audio}.wav"
        with media.blame(frame):
            picture = media.read_frame(self.root / frame, self.storage)
        with media.blame(audio):
            recording = media.read_audio(self.root / audio, self.storage, self.shortest)
        return Moment(picture, recording)

    def video_moment(self, pick: Pick, frame_at: float | None, start: float = 0.0) -> Moment:
        """Read `<id>.mp4`: one pass, or one for the frame and one for the sound of a pair."""
        window = Window(start, self.storage.seconds, frame_at, self.shortest)
        moments = []
        for name in dict.fromkeys((f"{pick.video}.mp4", f"{pick.audio}.mp4")):
            with media.blame(name):
                moments.append(read_video(self.root / name, window, self.storage))
        return Moment(moments[0].frame, moments[-1].recording, moments[0].frame_seconds)


@lru_cache(maxsize=4)
def _picks(source: FileSource) -> dict[str, tuple[Pick, int]]:
    """Return each id's pick, and how often it stands in the source."""
    if source.lists:
        picks = [pick for path in source.lists for pick in read_list(path)]
    else:
        picks = [Pick(id, id, id) for id in source.all_ids()]
    if not picks:
        where = ", ".join(map(str, source.lists)) or f"--root {source.root}"
        raise UserError(f"{where}: holds no clip of {source.name}: {source.__class__.__doc__}")
    counts = Counter(pick.id for pick in picks)
    return {pick.id: (pick, counts[pick.id]) for pick in picks}
