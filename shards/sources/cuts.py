"""Parts of films that become clips: those that a CSV names, and windows that begin every so many seconds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cacl.errors import UserError
from shards.sources.lists import is_name, read_rows


class Part(NamedTuple):
    """A part of a film that is a clip."""

    id: str
    """The clip's: the video's path without suffix, and the start in six digits where it is cut."""
    video: str
    start: float
    """Seconds."""
    label: str = ""


def part_id(video: str, start: float) -> str:
    """Return the name of the part that begins at `start` seconds, with thousandths where it has some."""
    return video + (f"_{start:06.0f}" if start == int(start) else f"_{start:010.3f}")


def window_start(number: int, every: float) -> float:
    """Return when window `number` begins, in seconds to a thousandth, as its name says it."""
    return round(number * every, 3)


@lru_cache(maxsize=2)
def read_parts(path: Path) -> list[Part]:
    """Return the parts that a CSV with the header id,start,label names. Raises UserError where it is none."""
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
        id = part_id(cells["id"], start) if "start" in header else cells["id"]
        parts.append(Part(id, cells["id"], start, cells.get("label", "")))
    return parts
