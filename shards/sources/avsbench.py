"""AVSBench S4 and MS3: films of five seconds, of each second a frame and a mask of what sounds.

Layout and moments are those of OpenNLPLab/AVSBench: of 16 frames that divide a second the last is taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.clip import SCENE, Storage
from shards.sources import media
from shards.sources.lists import is_name, read_rows
from shards.sources.published import PublishedSet, masked

_TABLES = {"s4_meta_data.csv": "s4_data", "ms3_meta_data.csv": "ms3_data"}
"""The set's table at the root, and the folder beside it that holds the files."""
_FRAMES, _BEFORE_END = 5, 1 / 16
"""Frames of a film, each so many seconds before its second ends."""
_YOUTUBE = 11
"""Characters of a YouTube id, with which a film's name begins."""
_FIX = "give s4_meta_data.csv or ms3_meta_data.csv with --csv"


class _Film(NamedTuple):
    """A row of the table."""

    name: str
    split: str
    category: str = ""
    """Empty in MS3, where several may sound."""

    @property
    def folder(self) -> str:
        """Where its masks and its sound lie."""
        return "/".join(filter(None, (self.split, self.category, self.name)))

    @property
    def ids(self) -> list[str]:
        """The frames that have masks."""
        count = 1 if self.category and self.split == "train" else _FRAMES
        return [f"{self.name}_{number}" for number in range(1, count + 1)]


@dataclass(frozen=True)
class AvsBench(PublishedSet):
    """S4 or MS3: visual_frames/, gt_masks/ and audio_wav/, and s4_meta_data.csv or ms3_meta_data.csv."""

    name: ClassVar[str] = "avsbench"

    csv: Path | None = field(default=None, metadata={"help": "the table; default: the set's own at the root"})
    split: Literal["train", "val", "test", "all"] = field(
        default="test", metadata={"help": "rows of the table"}
    )
    sound: Literal["frame", "film"] = field(
        default="frame", metadata={"help": "what is heard: what is around the frame, or the film's middle"}
    )
    storage: Storage = SCENE

    @property
    def table(self) -> Path:
        """The table. Raises UserError where there is none, or two."""
        there = [self.root / name for name in _TABLES if (self.root / name).exists()]
        if self.csv is None and len(there) > 1:
            raise UserError(f"--root {self.root}: both {there[0].name} and {there[1].name} lie there; {_FIX}")
        if self.csv is None and not there:
            raise UserError(self.nothing())
        return self.csv or there[0]

    def all_ids(self) -> list[str]:
        """Return the frames of the split that have masks."""
        films = _films(self.table).values()
        return [id for film in films if self.split in ("all", film.split) for id in film.ids]

    def picture(self, name: str) -> str:
        """Return a frame's file; in MS3 it may bear the ending of its film."""
        film, number = self._film(name), name.rpartition("_")[2]
        folder = f"{self._data}visual_frames/{film.folder if film.category else film.name}"
        files = [f"{folder}/{film.name}{ending}_{number}.png" for ending in ("", ".mp4")]
        return next((file for file in files if os.path.exists(self.root / file)), files[0])

    def recording(self, name: str) -> str:
        """Return the sound of a frame's film."""
        return f"{self._data}audio_wav/{self._film(name).folder}.wav"

    def film_of(self, name: str) -> str:
        """Return the film of a frame."""
        return name.rpartition("_")[0]

    def group(self, id: str) -> str:
        """Return the YouTube video, of which MS3 has several films."""
        return self.pick(id).video[:_YOUTUBE]

    def time(self, name: str) -> float:
        """Return when the frame is shown."""
        return int(name.rpartition("_")[2]) - _BEFORE_END

    def middle(self, name: str) -> float:
        """Return the frame's moment, or the film's middle."""
        return self.time(name) if self.sound == "frame" else _FRAMES / 2

    def truth(self, name: str) -> tuple[SoundSource, ...]:
        """Return all that sounds as one source: its mask, and the box around it."""
        film = self._film(name)
        file = f"{self._data}gt_masks/{film.folder}/{name}.png"
        with media.blame(file):
            return (masked(film.category, media.read_mask(media.in_any_form(self.root, file))),)

    @property
    def _data(self) -> str:
        folders = (f"{name}/" for name in _TABLES.values() if (self.root / name).is_dir())
        return "" if (self.root / "visual_frames").is_dir() else next(folders, "")

    def _film(self, name: str) -> _Film:
        film = _films(self.table).get(self.film_of(name))
        if film is None or name not in film.ids:
            raise media.BrokenMedia("missing: the list names it, and the table has no such frame with a mask")
        return film


@lru_cache(maxsize=2)
def _films(path: Path) -> dict[str, _Film]:
    """Return the films of a table by name. Raises UserError where it is malformed."""
    rows = read_rows(path)
    header = rows[0] if rows else []
    if "split" not in header[1:]:
        raise UserError(f"{path}: begins with {','.join(header)!r} and has no column split; {_FIX}")
    films = {}
    for number, row in enumerate(rows[1:], start=2):
        cells = dict(zip(header, row, strict=False))
        film = _Film(row[0], cells.get("split", ""), cells.get("category", ""))
        whole = len(row) == len(header) and all(film[: 3 if "category" in header else 2])
        if not whole or not is_name(film.folder) or "/" in film.name + film.category:
            raise UserError(f"{path}: row {number}: {','.join(row)!r} is not {','.join(header)}; {_FIX}")
        if film.name in films:
            raise UserError(f"{path}: row {number}: {film.name!r} stands there twice; take one of them out")
        films[film.name] = film
    return films
