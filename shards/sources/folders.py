"""Which files below a folder are films, and which are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2t", ".m2ts", ".m4v", ".mkv",
        ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob",
        ".webm", ".wmv",
    }
)  # fmt: skip
PICTURE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
SOUND_SUFFIXES = VIDEO_SUFFIXES | frozenset(
    {
        ".3ga", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".flac", ".m4a",
        ".m4b", ".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".snd", ".spx", ".w64", ".wav", ".weba",
        ".wma", ".wv",
    }
)  # fmt: skip
"""Of recordings; a film has one too."""
_NAMED = 3
"""Files of an ending that are named."""


def files_below(root: Path) -> Iterator[Path]:
    """Yield everything below `root` that is no folder, sorted; linked folders are entered, none in itself."""
    yield from _below(root, frozenset({os.path.realpath(root)}))


def _below(folder: Path, inside: frozenset[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
            continue
        real = os.path.realpath(path) if path.is_symlink() else ""
        # A link to a folder that it lies in would never end.
        if real and any(one == real or one.startswith(real + os.sep) for one in inside):
            yield path
        else:
            yield from _below(path, inside | {os.path.realpath(path)})


def video_files(root: Path) -> Iterator[Path]:
    """Yield every video below `root`, links to nothing among them, in sorted order."""
    return (path for path in sorted(files_below(root)) if is_video(path))


def is_video(path: Path) -> bool:
    """Say whether a path is a film by its name, and neither a folder nor a pipe or device."""
    if path.suffix.lower() not in VIDEO_SUFFIXES or path.is_dir():
        return False
    return path.is_file() or path.is_symlink()


def left_out(root: Path, paths: Iterable[Path], what: str) -> list[str]:
    """Return a sentence on the files that a source passes over, by their endings, if there are any."""
    found = [path.relative_to(root) for path in paths]
    if not found:
        return []
    kinds = Counter(path.suffix or "no ending" for path in found)
    named = [
        f"{count} of {kind} ({', '.join(_names(found, kind, count))})" for kind, count in kinds.most_common()
    ]
    files = "1 file is" if len(found) == 1 else f"{len(found)} files are"
    return [f"--root {root}: {files} left out, {what}: {'; '.join(named)}"]


def _names(found: list[Path], kind: str, count: int) -> list[str]:
    names = [path.as_posix() for path in found if (path.suffix or "no ending") == kind]
    return names[:_NAMED] + ["…"] * (count > _NAMED)
