"""The field's lists: which clips, and whose sound stands beside which frame."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from cacl.errors import UserError

_PAIRS = ["video", "audio", "label"]
"""Header of the Extended sets' lists."""


class Pick(NamedTuple):
    """A clip: a frame and a sound."""

    id: str
    video: str
    audio: str
    sounding: bool = True
    """Whether the sound's source can be seen; False in the Extended sets' pairs."""


def read_list(path: Path) -> list[Pick]:
    """Read a list: an id a line (what follows a comma is ignored), or `video,audio,label` with that header.

    A pair's id is `video+audio`. Raises UserError where a line is neither.
    """
    rows = read_rows(path)
    if rows and rows[0] == _PAIRS:
        picks = []
        for row in rows[1:]:
            if len(row) != 3 or row[2] not in ("sounding", "non-sounding"):
                raise UserError(f"{path}: {','.join(row)!r} is not video,audio,sounding or non-sounding")
            picks.append(Pick(f"{row[0]}+{row[1]}", row[0], row[1], row[2] == "sounding"))
    else:
        picks = [Pick(row[0], row[0], row[0]) for row in rows]
    for pick in picks:
        if not (is_name(pick.video) and is_name(pick.audio)):
            raise UserError(f"{path}: {pick.id!r} is no id: it must be a name, without '..'")
    return picks


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file that are not blank. Raises UserError where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is not a text of comma-separated values ({error})") from None
    return [row for row in rows if any(row)]


def is_name(text: str) -> bool:
    """Return whether `text` may name a file under a root."""
    parts = Path(text).parts
    return bool(parts) and ".." not in parts and not Path(text).is_absolute() and text.isprintable()
