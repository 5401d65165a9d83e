"""Clips as members of tars: which part holds which of them, and their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from shards.parts import MEMBER_LIMIT, SUFFIXES, DamagedPart, Member, list_parts, open_part
from shards.sources.folders import VIDEO_SUFFIXES
from shards.sources.lying import some, what_lies
from shards.sources.media import BrokenMedia
from shards.youtube import find_clip


class Place(NamedTuple):
    """Where a clip lies."""

    part: str
    """Relative to the root."""
    member: Member

    @property
    def name(self) -> str:
        """Part and member, for messages."""
        return f"{self.part}: {self.member.name}"

    def approach(self, root: Path, tick: Callable[[], None]) -> None:
        """Read on to the member, calling `tick` now and then."""
        open_part(root / self.part).approach(self.member.offset, tick)

    def read(self, root: Path) -> bytes:
        """Return the member's content. Raises BrokenMedia where it cannot be had whole, and OSError."""
        if self.member.size > MEMBER_LIMIT:
            raise BrokenMedia(f"too large: {self.member.size} bytes")
        try:
            return open_part(root / self.part).member(self.member)
        except DamagedPart as error:
            raise BrokenMedia(f"damaged part: {error}") from None


@dataclass(frozen=True)
class Contents:
    """What the parts below a root hold of a source's clips."""

    parts: list[str] = field(default_factory=list)
    """Relative to the root, sorted: the order of runs."""
    runs: list[list[str]] = field(default_factory=list)
    """Of each part the clips that it is the first to hold, in the order of its members."""
    places: dict[str, list[Place]] = field(default_factory=dict)
    """Of each clip all members that hold it."""
    others: list[str] = field(default_factory=list)
    """Members that hold no clip of the source."""
    damage: list[str] = field(default_factory=list)
    """A sentence for each place at which a part is damaged."""

    def why_empty(self, root: Path, source: str) -> str:
        """Say why there is no clip."""
        if not self.parts:
            return f"holds no part ({', '.join('*' + end for end in SUFFIXES)}); {what_lies(root, source)}"
        held = f"they hold {some(self.others)}" if self.others else "they hold no film"
        damage = f" ({self.damage[0]})" if self.damage else ""
        return f"no part holds a clip of the table or list; {some(self.parts)}: {held}{damage}"


def read_contents(root: Path, known: Mapping[str, str]) -> Contents:
    """List the parts below `root`, in folders too. Raises OSError.

    `known` are the source's clips by all forms of their names.
    """
    paths = sorted(path for path in root.rglob("*") if _is_part(path))
    contents = Contents()
    for path, listing in zip(paths, list_parts(paths), strict=True):
        part, run = path.relative_to(root).as_posix(), []
        for member in listing.members:
            name = PurePosixPath(member.name)
            form = find_clip(name.stem, known) if name.suffix.lower() in VIDEO_SUFFIXES else None
            if form is None:
                contents.others.append(member.name)
                continue
            clip = known[form]
            if clip not in contents.places:
                run.append(clip)
            contents.places.setdefault(clip, []).append(Place(part, member))
        contents.parts.append(part)
        contents.runs.append(run)
        contents.damage.extend(f"{part}: is damaged: {where}" for where in listing.damage)
    return contents


def _is_part(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()
