"""Clips as members of tars: which part holds which of them, and their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from shards.parts import MEMBER_LIMIT, SUFFIXES, DamagedPart, Member, list_parts, open_part
from shards.sources.folders import VIDEO_SUFFIXES
from shards.sources.lying import some, what_lies
from shards.sources.media import BrokenMedia
from shards.sources.streamed import Parts
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


def why_empty(parts: Parts, root: Path, source: str) -> str:
    """Say why no part holds a clip."""
    if not parts.names:
        return f"holds no part ({', '.join('*' + end for end in SUFFIXES)}); {what_lies(root, source)}"
    held = f"they hold {some(parts.others)}" if parts.others else "they hold no film"
    damage = f" ({parts.damage[0]})" if parts.damage else ""
    return f"no part holds a clip of the table or list; {some(parts.names)}: {held}{damage}"


def read_parts(root: Path, known: Mapping[str, str]) -> Parts:
    """List the parts below `root`, in folders too; `others` are members. Raises OSError.

    `known` are the source's clips by all forms of their names.
    """
    paths = sorted(path for path in root.rglob("*") if _is_part(path))
    parts = Parts()
    for path, listing in zip(paths, list_parts(paths), strict=True):
        part = path.relative_to(root).as_posix()
        parts.begin(part)
        for member in listing.members:
            name = PurePosixPath(member.name)
            form = find_clip(name.stem, known) if name.suffix.lower() in VIDEO_SUFFIXES else None
            if form is None:
                parts.others.append(member.name)
            else:
                parts.add(known[form], Place(part, member))
        parts.damage.extend(f"{part}: is damaged: {where}" for where in listing.damage)
    return parts


def _is_part(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()
