"""Shards at an address that fsspec knows (s3://, http:// ...), through a cache folder of this machine.

A shard is fetched once a machine, in ranges; a range that fails is asked for again, after pauses that double.
Only bytes with the manifest's sha256 get into the cache. The loader says which clips come next, and threads
fetch their shards ahead, or read those that are there already once a process, to see that they are sound.
"""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from cacl.errors import UserError, shorten
from cacl.files import cache_folder, sha256_file
from shards.ask import ask
from shards.cache import Cache
from shards.manifest import LARGEST_TEXT

ATTEMPTS = 8
"""Failures in a row after which a file is given up: two minutes with the pauses below."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_PATIENCE = 150.0
"""Seconds of failures in a row after which a file is given up, however few attempts they were."""
_REFUSED = (401, 403)
"""What a server answers that will not answer otherwise when it is asked again."""
_LARGEST_RANGE, _SMALLEST_RANGE = 16 * 2**20, 2**18
"""Bytes. A failed range is asked for again in halves, so that even bad lines make progress."""
_THREADS = 4

Answer = TypeVar("Answer")


class UnreachableError(UserError, OSError):
    """A file that its server does not give. No broken clip, and one sentence where nobody catches it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


def default_cache() -> Cache:
    """Return the shard cache: `shards` in the cache folder, limited to `$CACL_CACHE_GIGABYTES` (100) GB."""
    folder = cache_folder() / "shards"
    given = os.environ.get("CACL_CACHE_GIGABYTES", "100")
    try:
        limit = int(float(given) * 1e9)
    except ValueError:
        raise UserError(f"CACL_CACHE_GIGABYTES: {given!r} is no number of gigabytes") from None
    return Cache(folder, limit)


class RemoteFiles:
    """Files below `location`. May be shared by threads, forked and pickled."""

    def __init__(self, location: str, cache: Cache | None = None, first_pause: float = _FIRST_PAUSE) -> None:
        """Raises UserError where no file system of fsspec knows the location."""
        try:
            fsspec.get_filesystem_class(fsspec.utils.get_protocol(location))
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{location}: {error}; for s3:// and http://, in cacl's folder: pip install '.[s3]'"
            ) from None
        self.location = location.rstrip("/")
        self.cache = cache or default_cache()
        self.first_pause = first_pause
        self._wanted: queue.SimpleQueue[tuple[str, str, int]] | None = None
        self._announced: set[str] = set()
        self._compared: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_wanted": None, "_announced": set(), "_compared": set()}

    def read(self, name: str) -> bytes:
        """Return a file of at most `LARGEST_TEXT` bytes.

        Raises UserError when it is missing or longer, UnreachableError after all attempts.
        """
        return self._persistently(name, lambda: ask(self.location, name, LARGEST_TEXT))

    def local(self, name: str, sha256: str, size: int, compare: bool = False) -> Path:
        """Return a path on this machine of the file `name`, which has `size` bytes and that sha256.

        What the cache holds is compared with the sha256 if somebody wrote to it since, or with `compare`.
        Raises UserError when it is missing or twice of another content, UnreachableError after all
        attempts.
        """
        return self.cache.get(
            f"{sha256[:16]}-{name}",
            size,
            lambda part: self._fetch(name, sha256, size, part),
            lambda path: sha256_file(path) == sha256,
            compare,
        )

    def prefetch(self, files: Sequence[tuple[str, str, int]]) -> None:
        """Fetch files (name, sha256, size) in the background, in this order; `local` reports what fails."""
        if self._wanted is None:
            self._wanted = queue.SimpleQueue()
            for _ in range(_THREADS):
                threading.Thread(target=self._fetch_ahead, args=(self._wanted,), daemon=True).start()
        for file in files:
            if file[0] not in self._announced:
                self._announced.add(file[0])
                self._wanted.put(file)

    def _fetch_ahead(self, wanted: queue.SimpleQueue[tuple[str, str, int]]) -> None:
        while True:
            file = wanted.get()
            with suppress(UserError, OSError):  # the reader of the file tries again and reports it
                self.local(*file, compare=file[1] not in self._compared)
                self._compared.add(file[1])
            self._announced.discard(file[0])  # it may be evicted and wanted again

    def _fetch(self, name: str, sha256: str, size: int, part: Path) -> None:
        """Complete `part`, twice at most: bytes left by a killed process may be bad."""
        for _ in range(2):
            self._continue(name, size, part)
            if sha256_file(part) == sha256:
                return
            os.truncate(part, 0)
        raise UserError(
            f"{self.location}/{name}: is not what the manifest says (sha256); "
            "upload shards and manifest again"
        )

    def _continue(self, name: str, size: int, part: Path) -> None:
        """Append to `part` until it has `size` bytes."""
        length = _LARGEST_RANGE

        def append() -> None:
            nonlocal length
            start = part.stat().st_size
            end = min(start + length, size)
            length = max(length // 2, _SMALLEST_RANGE)
            data = ask(self.location, name, size, (start, end))
            if len(data) != end - start:
                raise OSError(f"{len(data)} bytes came instead of {end - start}")
            with part.open("ab") as file:
                file.write(data)
            length = min(4 * length, _LARGEST_RANGE)

        while part.stat().st_size < size:
            self._persistently(name, append)

    def _persistently(self, name: str, action: Callable[[], Answer]) -> Answer:
        """Return `action()`, tried again after growing pauses. Raises OSError after the last attempt."""
        end, attempts = time.monotonic() + _PATIENCE, 0
        for attempt in range(ATTEMPTS):
            try:
                attempts += 1
                return action()
            except FileNotFoundError:
                raise UserError(f"{self.location}/{name}: is missing; upload it again") from None
            except UserError:
                raise
            except PermissionError as error:
                raise UserError(f"{self.location}/{name}: may not be read ({error})") from None
            except Exception as error:  # every protocol has exceptions of its own for a lost connection
                reason = error
                if getattr(error, "status", None) in _REFUSED:
                    raise UserError(f"{self.location}/{name}: may not be read ({shorten(error)})") from None
            if time.monotonic() > end:
                break
            if attempt + 1 < ATTEMPTS:
                pause = min(self.first_pause * 2**attempt, _LONGEST_PAUSE)
                time.sleep(pause * random.Random().uniform(0.5, 1))  # so that processes do not ask in step
        raise UnreachableError(
            f"{self.location}/{name}: could not be read in {attempts} attempts ({shorten(repr(reason))}); "
            "see whether its server answers, then run again"
        ) from reason
