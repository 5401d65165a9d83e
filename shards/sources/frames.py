"""Folders of numbered frames, each with a sound: what extracting films with ffmpeg leaves.

SSL-TIE and HearTheFlow lay VGG-Sound and Flickr out so: `<id>/001.jpg` to `125.jpg`, and a WAV.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from cacl.errors import UserError
from shards.progress import progress
from shards.sources import media
from shards.sources.files import FileSource
from shards.sources.folders import PICTURE_SUFFIXES, SOUND_SUFFIXES, files_below, left_out
from shards.sources.lists import Pick, find_form
from shards.sources.lying import some
from shards.sources.media import BrokenMedia
from shards.sources.recordings import decode_samples
from shards.sources.video import Moment

_FRAME = re.compile(r"(?:frame|image|img)?[-_]?(\d{1,9})", re.IGNORECASE | re.ASCII)
"""A frame's name without its ending: a number, perhaps after such a word."""
_ROUNDED = 1e-3
"""Seconds by which a moment may miss its frame, as in films."""


@dataclass(frozen=True)
class Frames(FileSource):
    """Folders <id>/ of frames 001.jpg, 002.jpg …, and <id>.wav, <id>/audio.wav or a folder of sounds."""

    name: ClassVar[str] = "frames"

    audio: Path | None = field(
        default=None,
        metadata={"help": "folder of the sounds <id>.wav; default: beside or in the frames' own"},
    )
    fps: float = field(
        default=25.0, metadata={"help": "frames a second; 25 is what the field extracts VGG-Sound with"}
    )
    frame_at: float | None = field(
        default=None, metadata={"help": "seconds from the clip's start to its frame; default: the middle"}
    )

    def __post_init__(self) -> None:
        """Raises UserError for no rate."""
        if not 0.001 <= self.fps <= 1000:
            raise UserError(f"--fps: {self.fps:g} is not in 0.001 to 1000")

    def ids(self) -> list[str]:
        """Return the ids as others do. Raises UserError also where --audio is no folder."""
        if self.audio is not None and not self.audio.is_dir():
            raise UserError(f"--audio {self.audio}: is not a folder")
        return super().ids()

    def all_ids(self) -> list[str]:
        """Return the folders that hold frames."""
        return list(_folders(self.root))

    def is_there(self, name: str) -> bool:
        """Return whether a clip has a folder of frames."""
        folders = _folders(self.root)
        return find_form(name, folders) in folders

    def check_files(self) -> None:
        """Raise UserError where no clip has frames, or none a sound."""
        super().check_files()
        names = sorted(self.names())
        if not any(self._sounds(name) for name in names):
            first, found = names[0], self._elsewhere(names[0])
            advice = "name their folder with --audio"
            if found is not None:
                advice = f"there is {found}: give --root {(self.root / first).parent} --audio {found.parent}"
            raise UserError(
                f"--root {self.root}: no folder of frames has a sound, {self._expected(first)}; {advice}"
            )

    def _elsewhere(self, name: str) -> Path | None:
        """Return a sound of that name in a folder below the root or beside it."""
        last = os.path.basename(name)
        for folder in (*sorted(self.root.iterdir()), *sorted(self.root.absolute().parent.iterdir())):
            if folder.is_dir() and (found := _sounds_in(folder).get(last)):
                return found[0]
        return None

    def moment(self, pick: Pick) -> Moment:
        """Read the frame that is shown at the moment, and the sound from the beginning on."""
        with media.blame(pick.audio):
            sounds = self._sounds(pick.audio)
            if len(sounds) > 1:
                raise BrokenMedia(f"duplicate sound: {', '.join(map(self._shown, sounds))}")
            if not sounds:
                raise BrokenMedia(f"missing: it has no sound, {self._expected(pick.audio)}")
        with media.blame(self._shown(sounds[0])):
            # Far enough to know whether the sound, and with it the clip, has ended at the frame's moment.
            known = max(self.storage.seconds, (self.frame_at or 0.0) + 1)
            samples, rate = decode_samples(media.read_bytes(sounds[0]), known)
            part = samples[: round(self.storage.seconds * rate)]
            recording = media.fit_audio(part, rate, self.storage, self.needs(pick))
        with media.blame(pick.video):
            frames = _numbered(media.in_any_form(self.root, pick.video))
            path, time = self._shown_frame(frames, len(samples) / rate)
        with media.blame(self._shown(path)):
            return Moment(media.read_frame(path, self.storage), recording, time)

    def _shown_frame(self, frames: dict[int, Path], heard: float) -> tuple[Path, float]:
        """Return the last frame that begins at or before the moment, and when that is, in seconds.

        `heard` is how long the sound is, as far as it was decoded, in seconds. Raises BrokenMedia.
        """
        if not frames:
            raise BrokenMedia("missing: the folder has no frame, such as 001.jpg")
        begin = {(number - (0 not in frames)) / self.fps: path for number, path in frames.items()}
        end = max(max(begin) + 1 / self.fps, heard)
        moment = min(end, self.storage.seconds) / 2 if self.frame_at is None else self.frame_at
        if moment >= end:
            raise BrokenMedia(f"truncated: no frame at {moment:.2f} s, the last at {max(begin):.2f} s")
        # What begins late shows its first frame, as a film does.
        time = max((one for one in begin if one <= moment + _ROUNDED), default=min(begin))
        return begin[time], time

    def _sounds(self, name: str) -> list[Path]:
        """Return the sounds of a clip."""
        folder, last = os.path.split(name)
        places = [(self.audio or self.root, folder, last)]
        if self.audio is None:
            places += [(self.root, name, "audio"), (self.root, name, last)]
        found = []
        for root, below, stem in places:
            sounds = _sounds_in(media.in_any_form(root, below))
            found += sounds.get(find_form(stem, sounds), [])
        return found

    def _expected(self, name: str) -> str:
        if self.audio is not None:
            return f"{name}.wav in {self.audio}"
        return f"{name}.wav or {name}/audio.wav"

    def _shown(self, path: Path) -> str:
        """Return a file's name for messages, without the folders that the options name."""
        for root in filter(None, (self.root, self.audio)):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return path.name

    def remarks(self) -> list[str]:
        """Return sentences on gaps in the numbers of frames, and on files that belong to no clip."""
        return [*super().remarks(), *self._gaps(), *self._left_out()]

    def _gaps(self) -> list[str]:
        found = []
        for name in progress(sorted(self.names()), desc="looking for gaps", unit="clip"):
            with contextlib.suppress(BrokenMedia):  # a rejected clip has its own sentence
                if gap := _first_gap(list(_numbered(media.in_any_form(self.root, name)))):
                    found.append(f"{name}, {gap}")
        if not found:
            return []
        clips = "1 clip lacks" if len(found) == 1 else f"{len(found)} clips lack"
        return [
            f"--root {self.root}: {clips} frames by their numbers: {some(found)}; in a gap the frame "
            "before it is shown"
        ]

    def _left_out(self) -> list[str]:
        used = {path for name in self.names() for path in self._sounds(name)}
        used |= {path for path in (*self.lists, self.box_file) if path is not None}
        loose = {path for path, is_clip in _walk(self.root) if not is_clip}
        if self.audio is not None and self.audio.is_relative_to(self.root):
            loose |= set(files_below(self.audio))
        return left_out(self.root, sorted(loose - used), "neither frames of a clip nor its sound")


def _first_gap(numbers: list[int]) -> str:
    """Say where the first number lacks in a sorted list that begins at 0 or 1, nothing where none does."""
    if numbers and numbers[0] > 1:
        return f"none before {numbers[0]}"
    return next((f"none between {a} and {b}" for a, b in pairwise(numbers) if b > a + 1), "")


@lru_cache(maxsize=2)
def _folders(root: Path) -> dict[str, None]:
    """Return the folders below `root` that hold frames, relative to it."""
    return {path.relative_to(root).as_posix(): None for path, is_clip in _walk(root) if is_clip}


def _walk(folder: Path, inside: frozenset[str] = frozenset()) -> Iterator[tuple[Path, bool]]:
    """Yield folders of frames with True, and with False what else is no folder; the root is no clip."""
    inside |= {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if not entry.is_dir():
            yield path, False
        elif _holds_frames(path):
            yield path, True
        # A link to a folder that it lies in would never end.
        elif not entry.is_symlink() or os.path.realpath(path) not in inside:
            yield from _walk(path, inside)


def _holds_frames(folder: Path) -> bool:
    # As soon as one is found: there may be millions of files.
    with os.scandir(folder) as entries:
        return any(_number(entry.name) is not None for entry in entries)


def _number(name: str) -> int | None:
    """Return the number of a frame by its file's name, None where it is no frame."""
    stem, ending = os.path.splitext(name)
    found = _FRAME.fullmatch(stem) if ending.lower() in PICTURE_SUFFIXES else None
    return None if found is None else int(found[1])


def _numbered(folder: Path) -> dict[int, Path]:
    """Return the frames in a folder by their sorted numbers. Raises BrokenMedia where two have one."""
    found: dict[int, Path] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        if not media.is_missing(error):
            raise
        raise BrokenMedia("missing: there is no such folder of frames") from None
    for name in names:
        number = _number(name)
        if number is None:
            continue
        if number in found:
            raise BrokenMedia(f"two frames of one number: {found[number].name}, {name}")
        found[number] = folder / name
    return dict(sorted(found.items()))


@lru_cache(maxsize=4)
def _sounds_in(folder: Path) -> dict[str, list[Path]]:
    """Return the sounds in a folder by their names without endings; none where there is no folder."""
    found: dict[str, list[Path]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        if not media.is_missing(error):
            raise
        return {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending.lower() in SOUND_SUFFIXES:
            found.setdefault(stem, []).append(folder / name)
    return found
