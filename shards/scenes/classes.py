"""The table of classes: one name for what COCO, ESC-50, VGGSound and folders call by names of their own.

The table is `classes.csv`. A class that begins with `_` is heard and has no picture: rain, the sea, a fire.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

Naming = Literal["coco", "esc50", "vggsound", "names"]
"""Whose names: a set's own, or those of folders."""


class ClassRow(NamedTuple):
    """A class of the table, and what others call it."""

    name: str
    kin: str
    """A class that a picture or a recording of this one may pass for, such as `bird` for `crow`; or empty."""
    coco: tuple[str, ...]
    esc50: tuple[str, ...]
    vggsound: tuple[str, ...]
    names: tuple[str, ...]
    """Of folders and stamps."""


@cache
def class_table() -> tuple[ClassRow, ...]:
    """Return the rows of `classes.csv`, sorted by name."""
    with Path(__file__).with_name("classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return tuple(ClassRow(row[0], row[1], *(_several(cell) for cell in row[2:])) for row in rows)


def class_of(name: str, naming: Naming = "names") -> str:
    """Return the class that `naming` calls `name`; what is not in the table keeps its own name, plain.

    A folder may have a class's name, one of the names of folders, or what any set calls the class.
    """
    text = plain(name)
    known = _known("coco", "esc50", "vggsound") if naming == "names" else _known(naming)
    if naming == "names":
        known = known | _known("names") | {row.name: row.name for row in class_table()}
    return known.get(text, text)


def are_kin(one: str, other: str) -> bool:
    """Say whether two classes may be taken for each other: the same, a crow and a bird, a crow and an owl."""
    kin = {row.name: row.kin or row.name for row in class_table()}
    return bool({one, kin.get(one, one)} & {other, kin.get(other, other)})


def plain(name: str) -> str:
    """Return a name in lower case with `_` for all that is no letter and no digit; a leading `_` stays."""
    text = re.sub(r"\W+", "_", name.strip().lower())
    return ("_" if text.startswith("_") else "") + text.strip("_")


def _several(cell: str) -> tuple[str, ...]:
    return tuple(cell.split("|")) if cell else ()


@cache
def _known(*namings: Naming) -> dict[str, str]:
    """Return a plain name → its class."""
    return {
        plain(name): row.name for row in class_table() for naming in namings for name in getattr(row, naming)
    }
