"""A folder of files that came from elsewhere: never over its limit, shared by processes, safe against kills.

A file stands under its name only when it is complete and its content was compared. One process fetches it,
under a lock that the kernel frees when the process dies; what a killed one left (`NAME.SIZE.part`) is
continued by the next. To make room, the files that were asked for longest ago are deleted; who has one open
reads on.

The bytes of all files, each unfinished one counted as if it were complete, are never above the limit: names
appear only under the lock `room`.

A file's time of access is when it was last asked for. Its time of change is `_COMPARED` once its content was
compared, which whoever writes to the file undoes: it is compared again, and if it is damaged fetched again.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cacl.errors import Remark, UserError
from cacl.files import locked

_COMPARED = 10**9
"""Seconds since 1970: no time at which a cache was written."""
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

    def get(
        self,
        name: str,
        size: int,
        fetch: Callable[[Path], None],
        is_right: Callable[[Path], bool],
        compare: bool = False,
    ) -> Path:
        """Return the path of the file `name` of `size` bytes; `fetch(part)` completes it where it is missing.

        `fetch` finds in `part` what an earlier try left, or an empty file, and returns when its content is
        right. A file that is there and that somebody wrote to is fetched anew unless `is_right(path)`; with
        `compare`, whoever wrote to it. Raises UserError when the file is larger than the limit or when no
        room is made for it, and what `fetch` raises.
        """
        path = self.folder / name
        if not compare and _is_compared(path, size):
            return path
        if size > self.limit:
            raise UserError(
                f"{self.folder}: the cache is limited to {self.limit} bytes and {name} has {size}; "
                "raise CACL_CACHE_GIGABYTES"
            )
        with locked(self._lock_of(name)):
            if not compare and _is_compared(path, size):  # by another process, while this one waited
                return path
            if _is_intact(path, size, is_right):
                return path
            part = self.folder / f"{name}.{size}.part"
            self._make_room(size, part)
            fetch(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            _mark(part)
            with locked(self._lock_of("room")):
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
            except OSError:  # somebody deleted it meanwhile, or a link that leads nowhere
                continue
            if path.is_file():
                wanted = path.name.split(".")[-2] if path.suffix == ".part" else ""
                promised = int(wanted) if wanted.isdecimal() else 0
                yield path, (max(promised, status.st_size), status.st_atime)

    def _delete(self, path: Path) -> bool:
        """Delete a file unless it was asked for just now or is being fetched; return whether it is gone."""
        name = path.name
        try:
            if path.suffix == ".part":
                name = name.rsplit(".", 2)[0]
            elif abs(time.time() - path.stat().st_atime) < _GRACE:  # one far in the future is no new one
                return False
            with locked(self._lock_of(name), wait=False) as free:
                if free:
                    path.unlink(missing_ok=True)
                return free
        except OSError:  # another user's, in a folder that is shared
            return not path.exists()


def _is_compared(path: Path, size: int) -> bool:
    """Say whether `path` is there as it was compared, and note that it was asked for."""
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime) != (size, _COMPARED):
            return False
        _mark(path)
    except FileNotFoundError:
        return False
    return True


def _is_intact(path: Path, size: int, is_right: Callable[[Path], bool]) -> bool:
    """Compare the content of `path`, if it is there, and say so where it is damaged."""
    try:
        if path.stat().st_size == size and is_right(path):
            _mark(path)
            return True
    except FileNotFoundError:
        return False
    warnings.warn(f"{path}: is no longer what was fetched; it is fetched again", Remark, 2)
    return False


def _mark(path: Path) -> None:
    """Note that a compared file was asked for now, by this machine's clock; a server's may be another."""
    os.utime(path, (time.time(), _COMPARED))
