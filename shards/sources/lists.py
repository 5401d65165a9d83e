"""The field's lists: which clips, and whose sound stands beside which frame."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from cacl.errors import UserError
from cacl.files import regular, write_text

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
    """Return the rows of a CSV file that are not blank: the one reader of tables and lists.

    Raises UserError where it cannot be read, with the line at which a row begins that does not end.
    """
    rows: list[list[str]] = []
    line = 1
    try:
        with regular(path, "give a file of text").open(newline="", encoding="utf-8-sig") as file:
            # Strict: else a quote that is not closed would swallow all rows to the end.
            reader = csv.reader(file, strict=True)
            for row in reader:
                rows.append([cell.strip() for cell in row])
                line = reader.line_num + 1
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text in UTF-8 ({error}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(
            f"{path}: the row of line {line} is not one of comma-separated values ({error}); close its quotes"
        ) from None
    return [row for row in rows if any(row)]


def write_ids(path: Path, ids: Iterable[str]) -> None:
    """Write a list of ids that `read_list` reads as they are. Raises UserError for one that it could not."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for id in ids:
        if not is_name(id) or id != id.strip():
            raise UserError(f"{path}: the id {id!r} cannot stand in a list; rename its clip and pack again")
        writer.writerow([id])
    write_text(path, text.getvalue())


def forms(name: str) -> tuple[str, str, str]:
    """Return a name as it is, composed and decomposed: Macs write `é` and Hangul in more than one letter."""
    return name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


def find_form(name: str, known: Container[str]) -> str:
    """Return the form of `name` that is `known`, or the name as it is."""
    return next((form for form in forms(name) if form in known), name)


def is_name(text: str) -> bool:
    """Return whether `text` may name a file under a root."""
    parts = Path(text).parts
    return bool(parts) and ".." not in parts and not Path(text).is_absolute() and text.isprintable()
