"""What VGG-Sound and VGG-SS have in common: clips of YouTube videos, under their own names or a mirror's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shards.sources import media
from shards.sources.files import FileSource
from shards.sources.folders import video_files
from shards.sources.lists import Pick, forms
from shards.sources.video import Moment, Window, read_video
from shards.youtube import find_clip


@dataclass(frozen=True)
class YoutubeSource(FileSource):
    """Clips <youtube id>_<start, six digits>, in files of that name or of one that means it."""

    def video_moment(self, pick: Pick, frame_at: float | None) -> Moment:
        """Read a clip's film: one pass, or one for the frame and one for the sound of a pair.

        Raises media.BrokenMedia.
        """
        window = Window(0.0, self.storage.seconds, frame_at, self.needs(pick))
        moments = []
        for name in dict.fromkeys((pick.video, pick.audio)):
            path = self._path(name)
            with media.blame(path.relative_to(self.root).as_posix()):
                moments.append(read_video(path, window, self.storage))
        return Moment(moments[0].frame, moments[-1].recording, moments[0].frame_seconds)

    def is_there(self, name: str) -> bool:
        """Return whether a clip has a file, as a film or prepared."""
        film = os.path.exists(media.in_any_form(self.root, f"{name}.mp4"))
        return film or super().is_there(name) or name in _films(self)

    def _path(self, name: str) -> Path:
        """Return the file of a clip: ROOT/<name>.mp4 if it is there, else the one whose name means it."""
        path = media.in_any_form(self.root, f"{name}.mp4")
        if os.path.exists(path):
            return path
        found = _films(self).get(name, [path])
        if len(found) > 1:
            names = ", ".join(path.relative_to(self.root).as_posix() for path in found)
            raise media.BrokenMedia(f"duplicate id: {names}")
        return found[0]


@lru_cache(maxsize=2)
def _films(source: YoutubeSource) -> dict[str, list[Path]]:
    """Return the videos below the root, in folders too, by the clip of the source that they hold."""
    known = {form: name for name in source.names() for form in forms(name)}
    found: dict[str, list[Path]] = {}
    for path in video_files(source.root):
        if (form := find_clip(path.stem, known)) is not None:
            found.setdefault(known[form], []).append(path)
    return found
