"""What lies in a folder in which a source found nothing, and which source or option reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from shards.sources.folders import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES

_LOOKED_AT, _SHOWN = 5000, 3
"""Names: of a folder with more, those that come first tell enough."""


class _Kind(NamedTuple):
    """Files that one command reads."""

    layout: re.Pattern[str]
    sources: tuple[str, ...]
    """Who packs them, the likelier first; none where they are packed."""
    option: str = ""
    """What all but the first of them need besides."""
    whole: bool = False
    """Whether `layout` begins at the root that the command wants, and does not look into folders."""


def _kind(layout: str, *sources: str, option: str = "", whole: bool = False) -> _Kind:
    return _Kind(re.compile(rf"(?P<below>(?:.*/)?)(?:{layout})", re.IGNORECASE), sources, option, whole)


def _ending(suffixes: Iterable[str]) -> str:
    return "(?:" + "|".join(re.escape(suffix) for suffix in sorted(suffixes)) + ")"


_FILM, _PICTURE, _SOUND = _ending(VIDEO_SUFFIXES), _ending(PICTURE_SUFFIXES), _ending(SOUND_SUFFIXES)
_KINDS = (
    _kind(r"shard-\d{6,9}\.tar", whole=True),
    _kind(r"IS3_annotation\.json|synthetic3240_bbox\.json|gt_segmentation/[^/]+\.jpg", "is3", whole=True),
    _kind(r"vpo_(?:ss|ms)_bbox\.json|gray_masks/\d{12}_\d+\.jpg", "vpo", whole=True),
    _kind(r"(?:s4|ms3)_meta_data\.csv", "avsbench", whole=True),
    _kind(r"music_duet\.json", "music-duet", whole=True),
    _kind(r"metadata/[^/]+/\d+\.json", "avatar", whole=True),
    # Ids of prepared frames may be numbers too.
    _kind(rf"(?!frames/|Data/)[^/]+/(?:frame|image|img)?[-_]?\d{{1,6}}{_PICTURE}", "frames", whole=True),
    _kind(rf"frames/[^/]+{_PICTURE}|audio/[^/]+{_SOUND}", "prepared", whole=True),
    _kind(r"Data/[^/]+\.(?:jpg|mp3|wav)|Annotations/[^/]+\.xml", "flickr", whole=True),
    _kind(rf"[\w-]{{11}}_\d+(?:[._]\d+)*{_FILM}", "vggsound", "vggss"),
    _kind(rf"[^/]+{_FILM}", "videos"),
    _kind(rf"[^/]+(?:{_PICTURE}|{_SOUND})", "prepared", whole=True),
    _kind(r"[^/]+\.(?:parquet|parq|pq)", "parquet"),
    _kind(r"[^/]+(?:\.tar|\.tar\.gz|\.tgz)", "webdataset", "vggsound", "vggss", option=" --tars"),
)


def what_lies(root: Path, source: str) -> str:
    """Return half a sentence: what lies below `root`, in which `source` found nothing, and what reads it."""
    names = sorted(islice(_names(root), _LOOKED_AT))
    if not names:
        return "it is empty"
    for kind in _KINDS:
        if found := [match for name in names if (match := kind.layout.fullmatch(name))]:
            at = root / found[0]["below"] if kind.whole else root
            return f"there lie {some([match[0] for match in found])}: {_advice(kind, root, at, source)}"
    return f"there lie {some(names)}: no source reads such files"


def _advice(kind: _Kind, root: Path, at: Path, source: str) -> str:
    if not kind.sources:
        return f"they are packed already, see: cacl shards info {at}"
    if source not in kind.sources:
        more = f", and cacl pack {kind.sources[1]}{kind.option} its own clips in them" if kind.option else ""
        return f"cacl pack {kind.sources[0]} --root {at} reads them{more}"
    if kind.option and source != kind.sources[0]:
        return f"add{kind.option} to read clips out of them"
    return f"give --root {at}" if at != root else "no table or list names any of them"


def some(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _names(root: Path) -> Iterator[str]:
    """Yield the files below `root`, relative to it."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            yield Path(folder, name).relative_to(root).as_posix().encode(errors="replace").decode()
