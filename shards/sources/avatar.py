"""AVATAR: films of VGG-Sound, of each some frames with polygons of what sounds, and a scenario.

A frame's annotation is metadata/<film>/<number>.json: `original_width`, `original_height` and `annotations`,
each with `audio_visual_category`, `task` (the scenario) and `segmentation`, polygons [x0, y0, x1, y1, …] in
pixels. This was read off LucaFranceschi/ACL-SaN, which evaluates on the set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cacl.annotation import SoundSource
from cacl.errors import UserError, brief
from cacl.media.still import PIXEL_LIMIT
from shards.clip import Array, Storage
from shards.sources import media
from shards.sources.lists import Pick
from shards.sources.published import PublishedSet, is_number, masked, read_json
from shards.sources.video import Moment, Window, read_video

_OFF_SCREEN = "off-screen"
_FILMS = ("video", "video/video")
"""Folders of films, as the set has been unpacked."""
_FIX = "give the set's own file"
_STORAGE = Storage(seconds=3.0)


class _Clock(NamedTuple):
    """The time of a film."""

    rate: float
    """Frames a second."""
    seconds: float
    """Its length."""


class _Frame(NamedTuple):
    """The annotation of a frame."""

    size: tuple[int, int]
    """Width and height, on which polygons were drawn."""
    sources: tuple[tuple[str, list[list[float]]], ...]
    """Class and polygons of each."""
    scenarios: tuple[str, ...]


@dataclass(frozen=True)
class Avatar(PublishedSet):
    """Annotations metadata/<film>/<number>.json, pictures beside them or in frames/, video/<film>.mp4."""

    name: ClassVar[str] = "avatar"

    frame_rate: float = field(
        default=0.0, metadata={"help": "frames a second that numbers count; 0: what each film has"}
    )
    storage: Storage = _STORAGE

    def ids(self) -> list[str]:
        """Return `<film>/<number>`. Raises UserError as others do, and where numbers tell no time."""
        ids = super().ids()
        if not (self.frame_rate or self._film_folder):
            raise UserError(
                f"--root {self.root}: has no films in video/ that say how many frames a second there are; "
                "say it with --frame-rate, such as 30"
            )
        return ids

    def all_ids(self) -> list[str]:
        """Return the frames that are annotated."""
        paths = (self.root / "metadata").glob("*/*.json")
        return [f"{path.parent.name}/{path.stem}" for path in paths if path.stem.isdecimal()]

    def picture(self, name: str) -> str:
        """Return a frame's file."""
        beside = f"metadata/{name}.jpg"
        return beside if (self.root / beside).exists() else f"frames/{name}.jpg"

    def recording(self, name: str) -> str:
        """Return the file of a frame's sound: its film, or a recording where there are no films."""
        folder, film = self._film_folder, self.film_of(name)
        return f"{folder}/{film}.mp4" if folder else f"audio/{film}.wav"

    def film_of(self, name: str) -> str:
        """Return the film of a frame."""
        return PurePosixPath(name).parent.as_posix()

    def time(self, name: str) -> float:
        """Return when the frame is shown."""
        number = PurePosixPath(name).name
        if not number.isdecimal():
            raise media.BrokenMedia("missing: a list of frames names <film>/<number>")
        return int(number) / (self.frame_rate or self._clock(name).rate)

    def moment(self, pick: Pick) -> Moment:
        """Read the picture, and the sound around its moment, out of a film if there is one."""
        if not self._film_folder:
            return super().moment(pick)
        file, time, seconds = self.picture(pick.video), self.time(pick.audio), self.storage.seconds
        with media.blame(file):
            picture = media.read_frame(media.in_any_form(self.root, file), self.storage)
        start = max(0.0, min(time - seconds / 2, self._clock(pick.audio).seconds - seconds))
        # Of the film the sound is wanted; its last picture's number may lie beyond its end.
        window = Window(start, seconds, 0.0, self.needs(pick))
        with media.blame(self.recording(pick.audio)):
            heard = read_video(self.root / self.recording(pick.audio), window, self.storage)
        return Moment(picture, heard.recording, self.time(pick.video))

    @property
    def _film_folder(self) -> str:
        """Return the deepest folder of films, empty where there is none."""
        return next((name for name in reversed(_FILMS) if (self.root / name).is_dir()), "")

    def _clock(self, name: str) -> _Clock:
        file = self.recording(name)
        with media.blame(file):
            return _read_clock(self.root / file)

    def tags(self, name: str) -> tuple[str, ...]:
        """Return the scenario."""
        return self._annotation(name).scenarios

    def truth(self, name: str) -> tuple[SoundSource, ...]:
        """Return what sounds: off screen it is out of view."""
        found = self._annotation(name)
        away = _OFF_SCREEN in found.scenarios
        return tuple(
            masked(class_name, np.zeros((1, 1), bool) if away else _fill(polygons, found.size))
            for class_name, polygons in found.sources
        )

    def _annotation(self, name: str) -> _Frame:
        file = f"metadata/{name}.json"
        with media.blame(file):
            return _read_frame(self.root / file)


def _fill(polygons: list[list[float]], size: tuple[int, int]) -> Array:
    """Return the pixels inside of any polygon, [h, w] bool."""
    canvas = Image.new("1", size)
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon(polygon, fill=1)
    return np.array(canvas)


@lru_cache(maxsize=4)
def _read_clock(path: Path) -> _Clock:
    """Return what a film says of its time. Raises media.BrokenMedia where it says nothing."""
    import av

    if not path.exists():
        raise media.BrokenMedia("missing: there is no such file")
    try:
        with path.open("rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
            rate = float(container.streams.video[0].average_rate or 0)
            seconds = (container.duration or 0) / 1e6
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise media.BrokenMedia(f"undecodable video: {media.explain(error)}") from None
    if not (1 <= rate <= 1000 and seconds > 0):
        raise media.BrokenMedia(f"undecodable video: {rate:g} frames a second, {seconds:g} s")
    return _Clock(rate, seconds)


@lru_cache(maxsize=4)
def _read_frame(path: Path) -> _Frame:
    """Return an annotation. Raises media.BrokenMedia, which names the field, where it is malformed."""
    if not path.exists():
        raise media.BrokenMedia("missing: there is no such file")
    try:
        note = read_json(path, _FIX)
    except UserError:
        raise media.BrokenMedia("malformed annotation: it is no JSON") from None
    note = note if isinstance(note, dict) else {}
    size = note.get("original_width"), note.get("original_height")
    width, height = (edge if type(edge) is int and edge > 0 else 0 for edge in size)
    if not 0 < width * height <= PIXEL_LIMIT:
        raise media.BrokenMedia(f"malformed annotation: original_width, original_height: {brief(size)}")
    entries = note.get("annotations")
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
        raise media.BrokenMedia(f"malformed annotation: annotations: {brief(entries)}")
    scenarios = dict.fromkeys(_word(one, "task").lower() for one in entries)
    sources = tuple((_word(one, "audio_visual_category"), _polygons(one)) for one in entries)
    return _Frame((width, height), sources, tuple(filter(None, scenarios)))


def _word(entry: dict[str, Any], name: str) -> str:
    word = entry.get(name, "")
    if not isinstance(word, str):
        raise media.BrokenMedia(f"malformed annotation: {name}: expected text, got {brief(word)}")
    return word


def _polygons(entry: dict[str, Any]) -> list[list[float]]:
    polygons = entry.get("segmentation", [])
    if isinstance(polygons, list):
        for one in polygons:
            even = isinstance(one, list) and len(one) >= 6 and len(one) % 2 == 0
            if not (even and all(map(is_number, one))):
                raise media.BrokenMedia(f"malformed annotation: segmentation: {brief(one)} is no polygon")
        return polygons
    raise media.BrokenMedia(f"malformed annotation: segmentation: {brief(polygons)}")
