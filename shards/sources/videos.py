"""Any folder of videos: one clip of each, windows every so many seconds, or the parts that a CSV names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from cacl.errors import UserError
from shards.sources import media
from shards.sources.boxes import read_boxes
from shards.sources.cuts import Part, part_id, read_parts, window_start
from shards.sources.files import FileSource
from shards.sources.folders import files_below, is_video, left_out, video_files
from shards.sources.lists import Pick, find_form
from shards.sources.video import Moment, Window, read_video
from shards.sources.windows import MOST, SILENT, FilmWindows, Windows, find_windows

_SHORTEST_STEP = 0.01
"""Seconds between the beginnings of two windows."""


@dataclass(frozen=True)
class Videos(FileSource):
    """Videos of any kind, a clip of each; with --every or --csv several, cut out of it."""

    name: ClassVar[str] = "videos"

    every: float | None = field(
        default=None,
        metadata={
            "help": "seconds from the beginning of one clip to that of the next, each of --seconds; "
            "default: one clip a video"
        },
    )
    skip_silence: bool = field(
        default=False, metadata={"help": f"with --every: no clip where the sound is below {SILENT:.0f} dBFS"}
    )
    csv: Path | None = field(
        default=None, metadata={"help": "CSV with the header id,start,label; start in seconds"}
    )
    frame_at: float | None = field(
        default=None, metadata={"help": "seconds from the clip's start to its frame; default: the middle"}
    )

    leave_out_still: bool = field(
        default=False, metadata={"help": "reject films in which nothing moves, unless they have boxes"}
    )
    windows: tuple[tuple[str, FilmWindows], ...] | None = field(default=None, compare=False, repr=False)
    """With --every, of each video: filled in by `settled`, so that no other process looks again."""

    def __post_init__(self) -> None:
        """Raises UserError for options that do not go together."""
        if self.every is not None and self.csv is not None:
            raise UserError("--every: --csv says already where clips begin; give one of the two")
        if self.every is not None and self.every < _SHORTEST_STEP:
            raise UserError(
                f"--every: {self.every:g} is less than {_SHORTEST_STEP:g} seconds; give more, such as 3"
            )
        if self.skip_silence and self.every is None:
            raise UserError("--skip-silence: is for the clips of --every; give that too, such as --every 3")

    def settled(self) -> Videos:
        """Return the source with the windows of its videos, if it cuts them."""
        return self if self.every is None else replace(self, windows=tuple(_windows(self).items()))

    def parameters(self) -> dict[str, Any]:
        """Return the options; those of windows where there are some."""
        unused = {"windows", *(("every", "skip_silence") if self.every is None else ())}
        return {key: value for key, value in super().parameters().items() if key not in unused}

    def all_ids(self) -> list[str]:
        """Return a clip for each video, each window that is not left out, or each row of the CSV."""
        if self.every is not None:
            return self._heard()
        if self.csv is not None:
            return [part.id for part in read_parts(self.csv)]
        return [_stem(self.root, path) for path in video_files(self.root)]

    def is_there(self, name: str) -> bool:
        """Return whether the video of a clip is there."""
        files = _files(self.root)
        return find_form(self.film(name), files) in files

    def film(self, name: str) -> str:
        """Return the video that this clip is cut out of."""
        found = self._parts().get(find_form(name, self._parts()))
        return found[0].video if found else name

    def label(self, name: str) -> str:
        """Return the CSV's label."""
        return self._part(name).label

    def moment(self, pick: Pick) -> Moment:
        """Decode the part of the video whose name is the clip's."""
        moments = []
        for id in dict.fromkeys((pick.video, pick.audio)):
            part = self._part(id)
            files = _files(self.root)
            paths = files.get(find_form(part.video, files), [])
            path = paths[0] if paths else self.root / part.video
            with media.blame(path.relative_to(self.root).as_posix()):
                if len(paths) > 1:
                    raise media.BrokenMedia(f"duplicate id: {', '.join(path.name for path in paths)}")
                moments.append(read_video(path, self._window(part, pick), self.storage))
                self._refuse_short(part)
        return Moment(moments[0].frame, moments[-1].recording, moments[0].frame_seconds)

    def needs(self, pick: Pick) -> media.Needs:
        """Return what a clip must have; that it moves if asked for."""
        needs = super().needs(pick)
        return needs if self.measured(pick) else needs._replace(moving=self.leave_out_still)

    def remarks(self) -> list[str]:
        """Return sentences on boxes that name no clip, on silent windows, and on files that are no films."""
        used = {*self.lists, self.csv, self.box_file}
        others = (path for path in files_below(self.root) if not is_video(path) and path not in used)
        left = left_out(self.root, others, "no films by their names")
        return [*super().remarks(), *self._of_windows(), *left]

    def _window(self, part: Part, pick: Pick) -> Window:
        """Return what is read of a part; where a whole window is there, its middle needs no length."""
        seconds, frame_at = self.storage.seconds, self.frame_at
        if frame_at is None and self.every is not None and _windows(self)[part.video].count:
            frame_at = seconds / 2
        return Window(part.start, seconds, frame_at, self.needs(pick))

    def _refuse_short(self, part: Part) -> None:
        """Raise BrokenMedia for a film that is cut and has no window."""
        if self.every is None or (film := _windows(self)[part.video]).count:
            return
        raise media.BrokenMedia(
            f"too short: {film.length:.3f} s of film, and a clip has {self.storage.seconds:g} s"
        )

    def _heard(self) -> list[str]:
        """Return the windows that are not silent, or have boxes; one of each film that has none at all."""
        quiet = _silent(self)
        ids = [id for id in self._parts() if id not in quiet]
        if not ids and quiet:
            raise UserError(
                f"--skip-silence: all {len(quiet)} clips are below {SILENT:.0f} dBFS; look whether the films "
                "have sound, or leave it out"
            )
        return ids

    def _of_windows(self) -> list[str]:
        """Return sentences on the windows that give no clip."""
        found = []
        if self.skip_silence and not self.lists:
            quiet, parts = _silent(self), self._parts()
            films = len({parts[id][0].video for id in quiet})
            of = f"{len(quiet)} of {len(parts)} clips are below {SILENT:.0f} dBFS and left out"
            found.append(f"--skip-silence: {of}" + (f"; films that have such: {films}" if films else ""))
        for video, film in _windows(self).items() if self.every is not None else ():
            if film.count == MOST:
                found.append(
                    f"--every: {video}: {MOST} clips are made of a film at most; the rest is left out"
                )
        return found

    def _parts(self) -> Mapping[str, list[Part]]:
        """Return what is cut out of the videos, by id; nothing where each is one clip."""
        return {} if self.csv is None and self.every is None else _parts_by_id(self)

    def _part(self, id: str) -> Part:
        if self.csv is None and self.every is None:
            return Part(id, id, 0.0)
        found = self._parts().get(find_form(id, self._parts()))
        if not found:
            where = "the CSV does not" if self.csv else "no clip of --every is called so"
            raise media.BrokenMedia(f"missing: the list names it and {where}")
        return found[0]


def _stem(root: Path, path: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


@lru_cache(maxsize=2)
def _files(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in video_files(root):
        found.setdefault(_stem(root, path), []).append(path)
    return found


@lru_cache(maxsize=2)
def _windows(source: Videos) -> dict[str, FilmWindows]:
    """Return the windows of each video; none of two that have one name."""
    if source.windows is not None:
        return dict(source.windows)
    assert source.every is not None
    files = _files(source.root)
    single = {video: paths[0] for video, paths in files.items() if len(paths) == 1}
    asked = Windows(source.every, source.storage.seconds, source.skip_silence)
    found = dict(zip(single, find_windows(list(single.values()), asked), strict=True))
    return {video: found.get(video, FilmWindows()) for video in files}


@lru_cache(maxsize=2)
def _parts_by_id(source: Videos) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for part in _cut(source) if source.csv is None else read_parts(source.csv):
        found.setdefault(part.id, []).append(part)
    return found


def _cut(source: Videos) -> Iterator[Part]:
    """Yield the windows of all videos; a video without one has its beginning, which is rejected."""
    assert source.every is not None
    for video, film in _windows(source).items():
        for number in range(max(1, film.count)):
            start = window_start(number, source.every)
            yield Part(part_id(video, start), video, start)


@lru_cache(maxsize=2)
def _silent(source: Videos) -> frozenset[str]:
    """Return the ids of silent windows, but for those that have boxes: whatever is measured stays."""
    assert source.every is not None
    drawn = {} if source.box_file is None else read_boxes(source.box_file)
    ids = (
        part_id(video, window_start(number, source.every))
        for video, film in _windows(source).items()
        for number in film.silent
    )
    return frozenset(id for id in ids if find_form(id, drawn) not in drawn)
