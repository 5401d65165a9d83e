"""A folder of files that came from elsewhere: never over its limit, shared by processes, safe against kills.

A file stands under its name only when it is complete. One process fetches it, under a lock that the kernel
frees when the process dies; what a killed one left (`NAME.SIZE.part`) is continued by the next. To make room,
the files that were asked for longest ago are deleted; who has one open reads on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cacl.errors import UserError
from cacl.files import locked

_GRACE = 5.0
"""Seconds that a file stays at least after it was asked for, so that the asker can open it."""
_PAUSE = 0.2
"""Seconds between two looks for room while other processes' downloads fill the folder."""


@dataclass(frozen=True)
class Cache:
    """Files in `folder`, at most `limit` bytes of them, unfinished ones counted in full."""

    folder: Path
    limit: int

    def get(self, name: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """Return the path of the file `name` of `size` bytes; `fetch(part)` completes it where it is missing.

        `fetch` finds in `part` what an earlier try left, or an empty file. Raises UserError when the file
        is larger than the limit, and what `fetch` raises.
        """
        path = self.folder / name
        if _touched(path):
            return path
        if size > self.limit:
            raise UserError(
                f"{self.folder}: the cache is limited to {self.limit} bytes and {name} has {size}; "
                "raise CACL_CACHE_GIGABYTES"
            )
        with locked(self._lock_of(name)):
            if not _touched(path):  # else another process fetched it while this one waited
                part = self.folder / f"{name}.{size}.part"
                self._make_room(size, part)
                fetch(part)
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.rename(path)
        return path

    def _lock_of(self, name: str) -> Path:
        return self.folder / "locks" / name

    def _make_room(self, size: int, part: Path) -> None:
        """Create `part` where it is missing, once its `size` bytes fit."""
        while True:
            with locked(self._lock_of("room")):
                others = {path: held for path, held in self._contents() if path != part}
                excess = sum(held for held, _ in others.values()) + size - self.limit
                for path, (held, _) in sorted(others.items(), key=lambda item: item[1][1]):
                    if excess > 0 and self._delete(path):
                        excess -= held
                if excess <= 0:
                    part.touch()
                    return
            time.sleep(_PAUSE)

    def _contents(self) -> Iterator[tuple[Path, tuple[int, float]]]:
        """Yield every file with the bytes it has or will have, and when it was asked for."""
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process renamed it meanwhile
                continue
            if path.is_file():
                size = int(path.name.split(".")[-2]) if path.suffix == ".part" else status.st_size
                yield path, (size, status.st_mtime)

    def _delete(self, path: Path) -> bool:
        """Delete a file unless it was asked for just now or is being fetched; return whether it is gone."""
        name = path.name
        if path.suffix == ".part":
            name = name.rsplit(".", 2)[0]
        elif time.time() - path.stat().st_mtime < _GRACE:
            return False
        with locked(self._lock_of(name), wait=False) as free:
            if free:
                path.unlink(missing_ok=True)
            return free


def _touched(path: Path) -> bool:
    """Return whether `path` exists, and note that it was asked for."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
