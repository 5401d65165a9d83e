"""What a clip may be called elsewhere, and which part of which film it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cacl.annotation import Annotation
from shards.progress import progress
from shards.sources.boxes import read_boxes
from shards.sources.folders import VIDEO_SUFFIXES
from shards.sources.lists import forms, read_list
from shards.store import Store, open_store
from shards.youtube import Span, youtube_spans, youtube_video

_SUFFIXES = VIDEO_SUFFIXES | {".flac", ".jpeg", ".jpg", ".m4a", ".mp3", ".ogg", ".opus", ".png", ".wav"}
_YOUTUBE = re.compile(r"[\w-]{11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Named:
    """A clip as its name and its annotation tell of it."""

    id: str
    names: frozenset[str]
    """The id in every normal form, without the ending of a file; of a pair, those of frame and sound."""
    spans: tuple[Span, ...]
    """Which parts of films it is of: several where the name can be read in several ways."""
    likely: tuple[Span, ...] = ()
    """Parts of what is a film of YouTube only if another name says so: own films may be called so too."""


def read_clips(what: Path) -> list[Named]:
    """Return the clips of packed shards (a folder), of `vggss.json`, or of a list.

    The frame and the sound of a listed pair count both. Raises UserError where `what` is none of them.
    """
    if what.is_dir():
        return clips_of(open_store(what))
    if what.suffix == ".json":
        return [named(id) for id in read_boxes(what)]
    ids = dict.fromkeys(id for pick in read_list(what) for id in (pick.video, pick.audio))
    return [named(id) for id in ids]


def clips_of(store: Store) -> list[Named]:
    """Return the clips of packed shards, in the order of their indices."""
    seconds = store.manifest.parameters.get("storage", {}).get("seconds")
    indices = progress(store.indices, desc=f"reading {store.files.location}", unit="clip", delay=1)
    return [named_of(store.annotation(index), seconds) for index in indices]


def named(id: str) -> Named:
    """Return what an id alone tells of a clip."""
    return named_of(Annotation(id), None)


def named_of(note: Annotation, seconds: float | None) -> Named:
    """Return what is known of a clip whose sound has `seconds`."""
    parts = [_bare(part) for part in _parts(note.id)]
    names = {form for part in (note.id, *parts) for form in forms(part)}
    sure: list[Span] = []
    likely: list[Span] = []
    for part in parts:
        spans = youtube_spans(part)
        film = youtube_video(part)
        (sure if film is not None or note.film in {span.film for span in spans} else likely).extend(spans)
    if not sure:
        sure.append(_annotated(note, parts[0], seconds))
    return Named(note.id, frozenset(names), tuple(sure), tuple(likely))


def _parts(id: str) -> list[str]:
    """Return the clips whose frame and sound a pair `video+audio` has, or the id as it is."""
    parts = id.split("+")
    is_pair = len(parts) == 2 and all(part.isdecimal() or youtube_video(part) for part in parts)
    return parts if is_pair else [id]


def _bare(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in _SUFFIXES else name


def _annotated(note: Annotation, name: str, seconds: float | None) -> Span:
    """Return the part of a film of one's own that a clip is, by its annotation."""
    if note.film is None:
        return Span(name)
    start = name.removeprefix(f"{note.film}_") if name.startswith(f"{note.film}_") else ""
    if seconds is not None and re.fullmatch(r"\d+(\.\d+)?", start, re.ASCII):
        return Span(note.film, float(start), float(start) + seconds)
    # Videos of YouTube come cut into clips: the time is that in the clip.
    if note.time is None or seconds is None or _YOUTUBE.fullmatch(note.film):
        return Span(note.film)
    return Span(note.film, note.time - seconds / 2, note.time + seconds / 2)
