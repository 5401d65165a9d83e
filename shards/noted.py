"""What was found out about a file at length, kept in the cache folder until the file changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cacl.files import cache_folder, locked, write_text


def note_path(path: Path, kind: str, *key: object) -> Path:
    """Return where what is found in a file is kept: under its name, size and date, and what was asked.

    Raises OSError where there is no such file.
    """
    state = path.stat()
    asked = "".join(f"\0{one!r}" for one in key)
    name = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}{asked}"
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
    return cache_folder() / kind / f"{digest[:32]}.json"


def noted(note: Path, version: int, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the values of a note, or what `find` finds and is noted then; one process at a time looks.

    A note that is damaged or of another `version` is made anew. Raises OSError.
    """
    with locked(note.with_suffix(".lock")):
        try:
            values: dict[str, Any] = json.loads(note.read_bytes())
            if values["format_version"] == version:
                return values
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            pass
        values = {"format_version": version, **find()}
        write_text(note, json.dumps(values))
    return values
