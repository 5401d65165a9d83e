"""The layout `frames/<id>` and `audio/<id>` under one root: pictures and recordings of many kinds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from shards.sources.folders import PICTURE_SUFFIXES, SOUND_SUFFIXES, files_below, left_out
from shards.sources.lists import find_form
from shards.sources.media import BrokenMedia, blame

LAYOUT = {"frames": (PICTURE_SUFFIXES, ".jpg"), "audio": (SOUND_SUFFIXES, ".wav")}
"""Folder: the endings of its files in any case, and that of one which is missing."""


def prepared_ids(root: Path) -> list[str]:
    """Return the union of the ids of `frames/` and `audio/`."""
    return list({path.stem for folder in LAYOUT for path in _paths(root, folder)})


def prepared_file(root: Path, folder: str, id: str) -> str:
    """Return the file of a clip in `frames` or `audio`, relative to the root, also where there is none.

    Raises BrokenMedia where there are several.
    """
    files = _files(root, folder)
    names = files.get(find_form(id, files), [])
    if len(names) > 1:
        with blame(f"{folder}/{names[0]}"):
            raise BrokenMedia(f"duplicate id: {', '.join(names)}")
    return f"{folder}/{names[0] if names else id + LAYOUT[folder][1]}"


def is_prepared(root: Path, id: str) -> bool:
    """Return whether a clip has a picture or a recording."""
    return any(find_form(id, _files(root, folder)) in _files(root, folder) for folder in LAYOUT)


def prepared_left_out(root: Path) -> list[str]:
    """Return a sentence on the files below `frames` and `audio` that give no clip."""
    there = [folder for folder in LAYOUT if (root / folder).is_dir()]
    others = (
        path
        for folder in sorted(there)
        for path in files_below(root / folder)
        if path.parent != root / folder or not _fits(path, folder)
    )
    return left_out(root, others, "neither a picture frames/<id> nor a recording audio/<id>")


def _fits(path: Path, folder: str) -> bool:
    return path.suffix.lower() in LAYOUT[folder][0]


def _paths(root: Path, folder: str) -> Iterator[Path]:
    """Yield the files of a folder that are of its kind by their names."""
    if (root / folder).is_dir():
        yield from (path for path in (root / folder).iterdir() if _fits(path, folder))


@lru_cache(maxsize=4)
def _files(root: Path, folder: str) -> dict[str, list[str]]:
    """Return the names of a folder's files by id."""
    found: dict[str, list[str]] = {}
    for path in sorted(_paths(root, folder)):
        found.setdefault(path.stem, []).append(path.name)
    return found
