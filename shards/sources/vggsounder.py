"""VGGSounder: several labels for each test clip of VGG-Sound, whether each is heard and seen, and flags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.sources.lists import read_rows

_HEADER = ("video_id", "label", "modality")
_MODALITIES = ("A", "V", "AV")
_FIX = "give the csv of VGGSounder, such as vggsounder.csv"


@dataclass(frozen=True)
class Said:
    """What VGGSounder says of a clip."""

    labels: tuple[SoundSource, ...]
    """By row: where they are seen is not known."""
    flags: tuple[str, ...]
    """Those that are true, such as `static_image`."""


@lru_cache(maxsize=2)
def read_vggsounder(path: Path) -> dict[str, Said]:
    """Return what a table says of clips `<youtube id>_<start, six digits>`.

    A column after the label's modality is a flag of the clip. Raises UserError where the table is malformed.
    """
    rows = read_rows(path)
    header = rows[0] if rows else []
    if tuple(header[:3]) != _HEADER:
        raise UserError(f"{path}: begins with {','.join(header)!r}, not with {','.join(_HEADER)}; {_FIX}")
    labels: dict[str, list[SoundSource]] = {}
    flags: dict[str, dict[str, None]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header) or row[2] not in _MODALITIES or {*row[3:]} - {"True", "False"}:
            raise UserError(f"{path}: row {number}: {','.join(row)!r} is not {','.join(header)}; {_FIX}")
        labels.setdefault(row[0], []).append(_label(row[1], row[2]))
        true = dict.fromkeys(name for name, cell in zip(header[3:], row[3:], strict=True) if cell == "True")
        flags.setdefault(row[0], {}).update(true)
    return {id: Said(tuple(found), tuple(flags[id])) for id, found in labels.items()}


def _label(name: str, modality: str) -> SoundSource:
    visible = "V" in modality
    return SoundSource(name, None if visible else (), audible="A" in modality, visible=visible)


def add_labels(known: tuple[SoundSource, ...] | None, said: Said) -> tuple[SoundSource, ...]:
    """Return what is `known` of a clip and what VGGSounder says of it.

    Where people drew boxes these stay the truth, and the labels stand aside. Else the labels are what is
    known: first the clip's own class, which is kept against them where they hear nothing.
    """
    known = known or ()
    if any(source.boxes is not None for source in known):
        return (*known, *(replace(label, aside=True) for label in said.labels))
    own = {source.class_name for source in known}
    if any(label.audible for label in said.labels):
        return tuple(sorted(said.labels, key=lambda label: label.class_name not in own))
    return (*known, *(label for label in said.labels if label.class_name not in own))
