"""Pictures and recordings of many kinds: `frames/<id>` and `audio/<id>`, or side by side at the root."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from shards.sources.folders import (
    PICTURE_SUFFIXES,
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    files_below,
    left_out,
)
from shards.sources.lists import find_form
from shards.sources.media import BrokenMedia, blame

LAYOUT = {"frames": (PICTURE_SUFFIXES, ".jpg"), "audio": (SOUND_SUFFIXES, ".wav")}
"""Folder: the endings of its files in any case, and that of one which is missing."""


@lru_cache(maxsize=4)
def is_flat(root: Path) -> bool:
    """Say whether pictures and recordings lie side by side: neither folder is there, and one id has both."""
    if any((root / folder).is_dir() for folder in LAYOUT) or not root.is_dir():
        return False
    pictures, sounds = (
        {path.stem for path in root.iterdir() if _fits(path, root, folder)} for folder in LAYOUT
    )
    return bool(pictures & sounds)


def prepared_ids(root: Path) -> list[str]:
    """Return the union of the ids of `frames/` and `audio/`."""
    return list({path.stem for folder in LAYOUT for path in _paths(root, folder)})


def prepared_file(root: Path, folder: str, id: str) -> str:
    """Return the file of a clip in `frames` or `audio`, relative to the root, also where there is none.

    Raises BrokenMedia where there are several.
    """
    files, at = _files(root, folder), "" if is_flat(root) else f"{folder}/"
    names = files.get(find_form(id, files), [])
    if len(names) > 1:
        with blame(at + names[0]):
            raise BrokenMedia(f"duplicate id: {', '.join(names)}")
    return at + (names[0] if names else id + LAYOUT[folder][1])


def is_prepared(root: Path, id: str) -> bool:
    """Return whether a clip has a picture or a recording."""
    return any(find_form(id, _files(root, folder)) in _files(root, folder) for folder in LAYOUT)


def prepared_left_out(root: Path) -> list[str]:
    """Return a sentence on the files below `frames` and `audio`, or the root, that give no clip."""
    if is_flat(root):
        rest = [path for path in files_below(root) if path.parent != root]
        rest += [
            path
            for path in root.iterdir()
            if path.is_file() and not any(_fits(path, root, f) for f in LAYOUT)
        ]
        return left_out(root, rest, "neither a picture <id> nor a recording <id>")
    there = [folder for folder in LAYOUT if (root / folder).is_dir()]
    others = (
        path
        for folder in sorted(there)
        for path in files_below(root / folder)
        if path.parent != root / folder or not _fits(path, root, folder)
    )
    return left_out(root, others, "neither a picture frames/<id> nor a recording audio/<id>")


def _fits(path: Path, root: Path, folder: str) -> bool:
    """Say whether a file is of a folder's kind; beside pictures a film is none: it has one of its own."""
    ending = path.suffix.lower()
    return ending in LAYOUT[folder][0] and not (path.parent == root and ending in VIDEO_SUFFIXES)


def _paths(root: Path, folder: str) -> Iterator[Path]:
    """Yield the files of a folder that are of its kind by their names."""
    place = root if is_flat(root) else root / folder
    if place.is_dir():
        yield from (path for path in place.iterdir() if _fits(path, root, folder))


@lru_cache(maxsize=4)
def _files(root: Path, folder: str) -> dict[str, list[str]]:
    """Return the names of a folder's files by id."""
    found: dict[str, list[str]] = {}
    for path in sorted(_paths(root, folder)):
        found.setdefault(path.stem, []).append(path.name)
    return found
