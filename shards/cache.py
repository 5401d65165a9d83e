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
_PATIENCE = 300.0
"""Seconds after which a file for which there is no room is given up."""


@dataclass(frozen=True)
class Cache:
    """Files in `folder`, at most `limit` bytes of them, unfinished ones counted in full."""

    folder: Path
    limit: int

    def get(self, name: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """Return the path of the file `name` of `size` bytes; `fetch(part)` completes it where it is missing.

        `fetch` finds in `part` what an earlier try left, or an empty file. A file of another size is fetched
        anew. Raises UserError when the file is larger than the limit or when no room is made for it, and what
        `fetch` raises.
        """
        path = self.folder / name
        if _touched(path, size):
            return path
        if size > self.limit:
            raise UserError(
                f"{self.folder}: the cache is limited to {self.limit} bytes and {name} has {size}; "
                "raise CACL_CACHE_GIGABYTES"
            )
        with locked(self._lock_of(name)):
            if not _touched(path, size):  # else another process fetched it while this one waited
                part = self.folder / f"{name}.{size}.part"
                self._make_room(size, part)
                fetch(part)
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                _touched(part, size)
                part.rename(path)
        return path

    def _lock_of(self, name: str) -> Path:
        return self.folder / "locks" / name

    def _make_room(self, size: int, part: Path) -> None:
        """Create `part` where it is missing, once its `size` bytes fit."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
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
        raise UserError(
            f"{self.folder}: no room for {part.name} in {_PATIENCE:g} s: other processes fill the "
            f"{self.limit} bytes; raise CACL_CACHE_GIGABYTES",
            exit_code=1,
        )

    def _contents(self) -> Iterator[tuple[Path, tuple[int, float]]]:
        """Yield every file with the bytes it has or will have, and when it was asked for."""
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process renamed it meanwhile
                continue
            if path.is_file():
                wanted = path.name.split(".")[-2] if path.suffix == ".part" else ""
                yield path, (int(wanted) if wanted.isdecimal() else status.st_size, status.st_mtime)

    def _delete(self, path: Path) -> bool:
        """Delete a file unless it was asked for just now or is being fetched; return whether it is gone."""
        name = path.name
        if path.suffix == ".part":
            name = name.rsplit(".", 2)[0]
        elif abs(time.time() - path.stat().st_mtime) < _GRACE:  # one far in the future is no new one
            return False
        with locked(self._lock_of(name), wait=False) as free:
            if free:
                path.unlink(missing_ok=True)
            return free


def _touched(path: Path, size: int) -> bool:
    """Return whether `path` exists with its `size`, and note that it was asked for.

    The time is this machine's: a file server's clock may be another.
    """
    now = time.time()
    try:
        if path.stat().st_size != size:
            return False
        os.utime(path, (now, now))
    except FileNotFoundError:
        return False
    return True
