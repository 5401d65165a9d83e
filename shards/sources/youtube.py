"""What VGG-Sound and VGG-SS have in common: clips of YouTube videos, under their own names or a mirror's.

They are loose files, or members of tars as the data set is handed on. Then indices follow parts and members:
each part begins a shard, and clips that no part holds come last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.clip import Clip, Rejection
from shards.sources import media, tarred
from shards.sources.base import Run
from shards.sources.files import FileSource
from shards.sources.folders import video_files
from shards.sources.lists import Pick, forms
from shards.sources.streamed import Parts
from shards.sources.vggsounder import Said, add_labels, read_vggsounder
from shards.sources.video import Moment, Window, read_video
from shards.youtube import find_clip

Film = tuple[str, Callable[[], Path | bytes]]
"""The name that a rejected clip's line has, and what gives the file or its content."""


@dataclass(frozen=True)
class YoutubeSource(FileSource):
    """Clips <youtube id>_<start, six digits>, in files of that name or of one that means it."""

    tars: bool = field(
        default=False,
        metadata={"help": "read the clips out of the parts *.tar, *.tar.gz and *.tgz below the root"},
    )
    vggsounder: Path | None = field(
        default=None,
        metadata={"help": "csv of VGGSounder: several labels a test clip, heard or seen or both, and flags"},
    )

    @property
    def order(self) -> str:
        """What indices follow: ids, or parts and their members."""
        return "part-member" if self.tars else "sorted"

    def parameters(self) -> dict[str, Any]:
        """Return the options; of parts the order says enough, of labels the content."""
        return {key: one for key, one in super().parameters().items() if key not in ("tars", "vggsounder")}

    def ids(self) -> list[str]:
        """Return the listed ids, or all. Raises UserError as others do, and for pairs out of parts."""
        ids = super().ids()
        if self.vggsounder is not None and not any(map(self._said, ids)):
            raise UserError(
                f"--vggsounder {self.vggsounder}: names no clip of the source, such as {ids[0]!r}; it has "
                "VGG-Sound's test clips (--split test)"
            )
        if self.tars and (pairs := sorted(set(ids) - self.names())):
            raise UserError(
                f"--tars: the list has a frame with another clip's sound, {pairs[0]}, and parts are read "
                "from first to last; unpack them, and leave out --tars"
            )
        return ids

    def runs(self) -> list[Run]:
        """Return the ids part by part in the order of their members, and those that no part holds."""
        ids = self.ids()
        if not self.tars:
            return super().runs()
        runs = [Run(part, streamed=True) for part in _parts(self).runs]
        placed = {id for run in runs for id in run.ids}
        return [*runs, Run([id for id in ids if id not in placed])]

    def sources(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return what is heard or seen in a clip, with the labels of VGGSounder if asked for."""
        found, said = super().sources(pick), self._said(pick.id)
        return found if said is None else add_labels(found, said)

    def read(self, id: str) -> Clip | Rejection:
        """Decode one clip; the flags of VGGSounder are its tags."""
        clip, said = super().read(id), self._said(id)
        return clip if said is None or isinstance(clip, Rejection) else replace(clip, tags=said.flags)

    def _said(self, id: str) -> Said | None:
        return None if self.vggsounder is None else read_vggsounder(self.vggsounder).get(id)

    def approach(self, id: str, tick: Callable[[], None]) -> None:
        """Read on to a clip's member."""
        for place in _parts(self).places.get(id, [])[:1] if self.tars else ():
            place.approach(self.root, tick)

    def check_files(self) -> None:
        """Raise UserError where no clip has a file, or no part holds a clip."""
        if not self.tars:
            super().check_files()
        elif not _parts(self).places:
            raise UserError(f"--root {self.root}: {tarred.why_empty(_parts(self), self.root, self.name)}")

    def remarks(self) -> list[str]:
        """Return a sentence for each place at which a part is damaged, beside what others say."""
        return [*super().remarks(), *self._labeled(), *(_parts(self).damage if self.tars else ())]

    def _labeled(self) -> list[str]:
        if self.vggsounder is None:
            return []
        ids = self.ids()
        count = sum(self._said(id) is not None for id in ids)
        return [f"--vggsounder {self.vggsounder}: has labels of {count} of {len(ids)} clips"]

    def is_there(self, name: str) -> bool:
        """Return whether a clip has a file, as a film or prepared."""
        film = os.path.exists(media.in_any_form(self.root, f"{name}.mp4"))
        return film or super().is_there(name) or name in _films(self)

    def video_moment(self, pick: Pick, frame_at: float | None) -> Moment:
        """Read a clip's film: one pass, or one for the frame and one for the sound of a pair.

        Raises media.BrokenMedia.
        """
        window = Window(0.0, self.storage.seconds, frame_at, self.needs(pick))
        moments = []
        for name in dict.fromkeys((pick.video, pick.audio)):
            where, film = self._member(name) if self.tars else self._file(name)
            with media.blame(where):
                moments.append(read_video(film(), window, self.storage))
        return Moment(moments[0].frame, moments[-1].recording, moments[0].frame_seconds)

    def _file(self, name: str) -> Film:
        """Return the file of a clip: ROOT/<name>.mp4 if it is there, else the one whose name means it."""
        path = media.in_any_form(self.root, f"{name}.mp4")
        found = [path] if os.path.exists(path) else _films(self).get(name, [path])
        named = [path.relative_to(self.root).as_posix() for path in found]
        _refuse_several(named)
        return named[0], lambda: found[0]

    def _member(self, name: str) -> Film:
        """Return the member of a part that holds a clip."""
        found = _parts(self).places.get(name)
        if found is None:
            raise media.BrokenMedia("missing: no part holds it")
        _refuse_several([place.name for place in found])
        return found[0].name, partial(found[0].read, self.root)


def _refuse_several(names: list[str]) -> None:
    if len(names) > 1:
        raise media.BrokenMedia(f"duplicate id: {', '.join(names)}")


def _known(source: YoutubeSource) -> dict[str, str]:
    """Return the names of the source's clips by each normal form of them."""
    return {form: name for name in source.names() for form in forms(name)}


@lru_cache(maxsize=2)
def _films(source: YoutubeSource) -> dict[str, list[Path]]:
    """Return the videos below the root, in folders too, by the clip of the source that they hold."""
    known = _known(source)
    found: dict[str, list[Path]] = {}
    for path in video_files(source.root):
        if (form := find_clip(path.stem, known)) is not None:
            found.setdefault(known[form], []).append(path)
    return found


@lru_cache(maxsize=2)
def _parts(source: YoutubeSource) -> Parts:
    """Return what the parts below the root hold of the source's clips."""
    return tarred.read_parts(source.root, _known(source))
