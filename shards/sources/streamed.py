"""Sources of parts: files that hold many clips each, read by one process from the first clip to the last.

Indices follow parts and members: each part begins a shard, and listed clips that no part holds come last.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cacl.annotation import SoundSource
from cacl.errors import UserError, brief
from shards.sources.base import Run
from shards.sources.files import FileSource
from shards.sources.halves import pair_moment
from shards.sources.lists import Pick, find_form, is_name
from shards.sources.media import BrokenMedia, blame
from shards.sources.video import Moment, Window, read_video

_LONGEST_CLASS = 100
"""Characters of a class's name; a longer text is a caption, and no two clips would share it."""


class Sample(NamedTuple):
    """What a part holds of a clip: a film, or a picture and a sound, as bytes of their files."""

    film: bytes | None = None
    picture: bytes | None = None
    sound: bytes | None = None
    classes: tuple[str, ...] = ()
    """Of what is heard."""


class Place(Protocol):
    """Where a clip lies."""

    @property
    def name(self) -> str:
        """Part and member, for messages."""

    def approach(self, root: Path, tick: Callable[[], None]) -> None:
        """Read on to the clip, calling `tick` now and then."""


@dataclass(frozen=True)
class Parts:
    """What the parts below a root hold."""

    names: list[str] = field(default_factory=list)
    """Relative to the root, sorted: the order of runs."""
    runs: list[list[str]] = field(default_factory=list)
    """Of each part the clips that it is the first to hold, in the order of its members."""
    places: dict[str, list[Any]] = field(default_factory=dict)
    """Of each clip every `Place` that holds it."""
    damage: list[str] = field(default_factory=list)
    """A sentence for each place at which a part is damaged."""
    others: list[str] = field(default_factory=list)
    """What no clip is made of: sentences, or members that are named only where there is no clip."""

    def begin(self, name: str) -> None:
        """Go on to the next part."""
        self.names.append(name)
        self.runs.append([])

    def add(self, id: str, place: Place) -> None:
        """Take the next clip of the part."""
        if id not in self.places:
            self.runs[-1].append(id)
        self.places.setdefault(id, []).append(place)


@dataclass(frozen=True)
class PartSource(FileSource):
    """Clips out of parts. A subclass lists them and loads one."""

    frame_at: float | None = field(
        default=None,
        metadata={"help": "seconds from a film's start to the clip's frame; default: the middle"},
    )

    @abstractmethod
    def parts(self) -> Parts:
        """Return what the parts hold, the same as long as this process lives."""

    @abstractmethod
    def load(self, place: Any) -> Sample:
        """Return what lies at a place. Raises BrokenMedia that names the member, and OSError."""

    @abstractmethod
    def why_empty(self) -> str:
        """Say why no part holds a clip."""

    @property
    def order(self) -> str:
        """What indices follow: parts and their members."""
        return "part-member"

    def all_ids(self) -> list[str]:
        """Return what the parts hold. Raises UserError where that is nothing."""
        if not self.parts().places:
            raise UserError(f"--root {self.root}: {self.why_empty()}")
        return list(self.parts().places)

    def ids(self) -> list[str]:
        """Return the listed ids, or all. Raises UserError as others do, and for pairs."""
        ids = super().ids()
        if pairs := sorted(set(ids) - self.names()):
            raise UserError(
                f"--list: has a frame with another clip's sound, {pairs[0]}, and parts are read from first "
                "to last; unpack them, and pack the pairs as `prepared` or `videos`"
            )
        return ids

    def runs(self) -> list[Run]:
        """Return the ids part by part in the order of their members, and those that no part holds."""
        parts, ids = self.parts(), self.ids()
        wanted = {find_form(id, parts.places): id for id in ids}
        runs = [Run([wanted[id] for id in run if id in wanted], streamed=True) for run in parts.runs]
        placed = {id for run in runs for id in run.ids}
        return [*runs, Run([id for id in ids if id not in placed])]

    def approach(self, id: str, tick: Callable[[], None]) -> None:
        """Read on to a clip's member."""
        for place in self._places(id)[:1]:
            place.approach(self.root, tick)

    def is_there(self, name: str) -> bool:
        """Return whether a part holds the clip."""
        return bool(self._places(name))

    def remarks(self) -> list[str]:
        """Return sentences on damage and on what is left out, beside what others say."""
        return [*super().remarks(), *self.parts().damage, *self.parts().others]

    def label(self, name: str) -> str:
        """Return the first class that a part has for the clip."""
        return next(iter(_sample(self, name).classes), "")

    def sources(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return what is heard: several where a part has several classes for the clip."""
        if self.drawn(pick) is not None:
            return super().sources(pick)
        return tuple(SoundSource(name) for name in _sample(self, pick.video).classes) or None

    def moment(self, pick: Pick) -> Moment:
        """Decode the film, or the picture and the sound."""
        sample, needs = _sample(self, pick.video), self.needs(pick)
        with blame(self._places(pick.video)[0].name):
            if sample.film is not None:
                window = Window(0.0, self.storage.seconds, self.frame_at, needs)
                return read_video(sample.film, window, self.storage)
            return pair_moment(sample.picture or b"", sample.sound or b"", self.storage, needs)

    def one_place(self, name: str) -> Any:
        """Return where a clip lies. Raises BrokenMedia where that is nowhere, or in two places."""
        found = self._places(name)
        if not found:
            raise BrokenMedia("missing: no part holds it")
        with blame(found[0].name):
            names = [place.name for place in found]
            if len(set(names)) < len(names):
                raise BrokenMedia(f"duplicate id: {names[0]} twice; a sample's members must stand together")
            if len(names) > 1:
                raise BrokenMedia(f"duplicate id: {', '.join(names)}")
            if not is_name(name):
                raise BrokenMedia(f"no id: {name!a} must be a name, without '..'")
        return found[0]

    def _places(self, name: str) -> list[Any]:
        places = self.parts().places
        return places.get(find_form(name, places), [])


# Class and media are asked for one after the other; of a compressed part they are read once.
@lru_cache(maxsize=1)
def _sample(source: PartSource, name: str) -> Sample:
    return source.load(source.one_place(name))


def class_names(value: Any) -> tuple[str, ...]:
    """Return the classes that a label names: a text, a whole number, or a list of them.

    Nothing (None, an empty text, NaN) is no class, nor is a caption: a text of several lines, or a long one.
    Raises BrokenMedia for what is neither.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, float) and value.is_integer():  # what tables make of numbers beside gaps
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return (brief(value),)
    if isinstance(value, str):
        text = value.strip()
        return (text,) if text and len(text) <= _LONGEST_CLASS and "\n" not in text else ()
    if isinstance(value, list) and not any(isinstance(one, list) for one in value):
        return tuple(dict.fromkeys(name for one in value for name in class_names(one)))
    raise BrokenMedia(f"no class: {brief(value)} is neither text nor number; choose another label")
