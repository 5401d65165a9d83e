"""Files that appear whole or not at all, their hashes, locks between processes, and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cacl.errors import Remark, UserError, brief, shorten

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
"""What file systems without locks answer, such as Lustre's without its option."""


@contextlib.contextmanager
def written(path: Path, scratch: Path | None = None, suffix: str = "") -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` at the end: whole, or after an error not at all.

    The bytes are on the disk before the name is. Unfinished files lie in the folder `scratch` of the same
    file system (default: next to `path`, hidden) under names that no other process takes; the names end in
    `suffix`, for libraries that tell a format by it.
    """
    folder = scratch or path.parent
    # Containers on several machines may have the same process ids: a random name is everybody's own.
    partial = folder / f".{path.name}.{uuid.uuid4().hex}.partial{suffix}"
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename == os.fspath(partial):  # a name that nobody has given
            error.filename = os.fspath(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, scratch: Path | None = None) -> None:
    """Write a small UTF-8 file whole or not at all."""
    with written(path, scratch) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a small JSON file that holds a mapping.

    Raises UserError, which ends with `remedy`, where it is damaged, and FileNotFoundError without one.
    """
    try:
        values = json.loads(regular(path, remedy).read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({shorten(error)}); {remedy}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: is damaged (it holds {brief(values)}); {remedy}")
    return values


def regular(path: Path, remedy: str, most: int | None = None) -> Path:
    """Return `path`; reading a FIFO or a device in place of a file would wait, or go on, for ever.

    Raises UserError, which ends with `remedy`, for one, and for a file of more than `most` bytes. What is
    not there is the caller's to say.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: is no file but a pipe, socket or device; {remedy}")
    if most is not None and path.is_file() and (size := path.stat().st_size) > most:
        raise UserError(f"{path}: has {size} bytes, and at most {most} are read; {remedy}")
    return path


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hexadecimal digits. Raises UserError for a pipe or device."""
    with regular(path, "put the file itself there").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` among processes and threads; yield False if it is held and `wait` is False.

    Any number may hold it `shared` while nobody holds it alone. The kernel frees it if the process dies. A
    file system without locks is said once and counts as locked.
    """
    import fcntl  # not on every system, and needed here only

    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                _say_without_locks(path.parent)
                yield True
                return
            if os.fstat(file.fileno()).st_nlink == 0:  # who held it removed it at the end
                continue
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            return


@functools.cache
def _say_without_locks(folder: Path) -> None:
    warnings.warn(f"{folder}: has no file locks; let one process at a time write there", Remark, 2)


def lock_process(file: IO[str]) -> bool:
    """Lock an open file for this process alone, until it is closed; return False if another one holds it.

    A POSIX lock: forked children do not inherit it, and on network file systems it holds for all nodes. A
    file system without locks counts as locked.
    """
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def lock_with_children(file: IO[bytes]) -> None:
    """Wait for the lock of an open file and take it; processes started from here hold it too, to their end.

    A file system without locks counts as locked.
    """
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def cache_folder() -> Path:
    """Return the folder of what is fetched once: `$CACL_CACHE`, or `cacl` in the user's cache folder.

    Raises UserError for a user without a home.
    """
    if named := os.environ.get("CACL_CACHE"):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "cacl"
    try:
        return Path.home() / ".cache" / "cacl"
    except RuntimeError as error:  # a container's user that nobody knows
        raise UserError("this user has no home folder; name a folder to keep files by CACL_CACHE") from error
