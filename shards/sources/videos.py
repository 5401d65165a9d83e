"""Any folder of videos, and perhaps a CSV that says which parts of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from cacl.errors import UserError
from shards.sources import media
from shards.sources.files import FileSource
from shards.sources.folders import files_below, is_video, left_out, video_files
from shards.sources.lists import Pick, find_form, is_name, read_rows
from shards.sources.video import Moment, Window, read_video


class _Part(NamedTuple):
    id: str
    """The clip's: the video's path without suffix, and the start in six digits where the CSV has one."""
    video: str
    start: float
    label: str


@dataclass(frozen=True)
class Videos(FileSource):
    """Videos of any kind, one clip each from its beginning; with --csv the parts that it names."""

    name: ClassVar[str] = "videos"

    csv: Path | None = field(
        default=None, metadata={"help": "CSV with the header id,start,label; start in seconds"}
    )
    frame_at: float | None = field(
        default=None, metadata={"help": "seconds from the clip's start to its frame; default: the middle"}
    )

    leave_out_still: bool = field(
        default=False, metadata={"help": "reject films in which nothing moves, unless they have boxes"}
    )

    def all_ids(self) -> list[str]:
        """Return a clip for each row of the CSV, or for each video."""
        if self.csv is None:
            return [_stem(self.root, path) for path in video_files(self.root)]
        return [part.id for part in _parts(self.csv)]

    def is_there(self, name: str) -> bool:
        """Return whether the video of a clip is there."""
        files = _files(self.root)
        return find_form(self.film(name), files) in files

    def film(self, name: str) -> str:
        """Return the video of which the CSV makes this clip."""
        parts = _parts_by_id(self.csv) if self.csv else {}
        found = parts.get(find_form(name, parts))
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
                window = Window(part.start, self.storage.seconds, self.frame_at, self.needs(pick))
                moments.append(read_video(path, window, self.storage))
        return Moment(moments[0].frame, moments[-1].recording, moments[0].frame_seconds)

    def needs(self, pick: Pick) -> media.Needs:
        """Return what a clip must have; that it moves if asked for."""
        needs = super().needs(pick)
        return needs if self.measured(pick) else needs._replace(moving=self.leave_out_still)

    def remarks(self) -> list[str]:
        """Return sentences on boxes that name no clip, and on files that are no films by their names."""
        used = {*self.lists, self.csv, self.box_file}
        others = (path for path in files_below(self.root) if not is_video(path) and path not in used)
        return [*super().remarks(), *left_out(self.root, others, "no films by their names")]

    def _part(self, id: str) -> _Part:
        if self.csv is None:
            return _Part(id, id, 0.0, "")
        parts = _parts_by_id(self.csv)
        found = parts.get(find_form(id, parts))
        if not found:
            raise media.BrokenMedia("missing: the list names it and the CSV does not")
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
def _parts(path: Path) -> list[_Part]:
    rows = read_rows(path)
    header = rows[0] if rows else []
    unknown = set(header) - {"id", "start", "label"}
    if "id" not in header or unknown:
        raise UserError(f"{path}: its header is {','.join(header)!r}; it must be id,start,label")
    parts = []
    for number, row in enumerate(rows[1:], start=2):
        cells = dict(zip(header, row, strict=False))
        try:
            start = float(cells.get("start") or 0)
        except ValueError:
            start = -1.0
        if len(row) != len(header) or not is_name(cells["id"]) or not 0 <= start < 1e6:
            raise UserError(f"{path}: row {number}: {','.join(row)!r} is not {','.join(header)}")
        suffix = f"_{start:06.0f}" if start == int(start) else f"_{start:010.3f}"
        id = cells["id"] + (suffix if "start" in header else "")
        parts.append(_Part(id, cells["id"], start, cells.get("label", "")))
    return parts


@lru_cache(maxsize=2)
def _parts_by_id(path: Path) -> dict[str, list[_Part]]:
    found: dict[str, list[_Part]] = {}
    for part in _parts(path):
        found.setdefault(part.id, []).append(part)
    return found
