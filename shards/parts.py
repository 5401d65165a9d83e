"""Tar files as data sets are handed on in: what members they hold, and the bytes of each, nothing unpacked.

A part is a tar, perhaps compressed by gzip, whatever its name says. It is listed once, from end to end, and
the list is kept in the cache folder under the part's name, size and date. Then a member is read at its place:
of a tar at once, of a compressed one by reading on to it. Members asked for in their order are read once.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, TypeVar

from cacl.files import regular
from shards.noted import note_path, noted
from shards.progress import progress

SUFFIXES = (".tar", ".tar.gz", ".tgz")
MEMBER_LIMIT = 2**30
"""Bytes of one member, and of one read."""
_MOST = 10**6
"""Members of a part; a longer list is cut there, and said."""
_STRIDE = 2**26
"""Bytes that are passed over between two signs of life."""
_LIST_VERSION = 1


Result = TypeVar("Result")


class DamagedPart(Exception):
    """A part cannot be read on from here. Its message says why, without the part's name."""


class Member(NamedTuple):
    """A file within a part."""

    name: str
    """With its folders; characters that are no UTF-8 replaced."""
    offset: int
    """Of its first byte in the tar within."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Listing:
    """What a part holds."""

    members: list[Member]
    """Regular files, in their order."""
    damage: list[str]
    """Where it is no tar, as half a sentence each: what began there is lost."""


class Part:
    """An open part, as the tar within it. Going back in a compressed one begins it anew."""

    def __init__(self, path: Path) -> None:
        """Open a part. Raises OSError."""
        file = regular(path, "put the part itself there").open("rb")
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._file: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if packed else file
        self._raw = file
        self._broken: tuple[int, str] | None = None
        """From where on nothing can be had, and why."""
        self.strange: int | None = None
        """Where the first block of 512 bytes was read that is not all zeros, since this was last None."""

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end. Raises DamagedPart and OSError."""
        if not 0 <= size <= MEMBER_LIMIT:
            raise DamagedPart(f"a header names {size} bytes")
        at = self.tell()
        data = self._guarded(lambda: self._file.read(size), at + 1)
        if size == tarfile.BLOCKSIZE and self.strange is None and any(data):
            self.strange = at
        return data

    def seek(self, offset: int) -> int:
        """Go to a place. Raises DamagedPart where the part is damaged before it."""
        if offset < 0:
            raise DamagedPart("a header leads out of the part")
        if self._broken is not None and offset >= self._broken[0]:
            raise DamagedPart(self._broken[1])
        return self._guarded(lambda: self._file.seek(offset), offset)

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._file.tell()

    def approach(self, offset: int, tick: Callable[[], None]) -> None:
        """Go to a place and call `tick` now and then on the way. Damage is left for the next read to find."""
        try:
            if offset < self.tell():
                self.seek(0)
            while self.tell() < offset:
                before = self.tell()
                self.seek(min(offset, before + _STRIDE))
                if self.tell() == before:  # the end
                    return
                tick()
        except DamagedPart:
            return

    def member(self, member: Member) -> bytes:
        """Return a member's content. Raises DamagedPart where it is not whole."""
        self.seek(member.offset)
        data = self.read(member.size)
        if len(data) < member.size:
            raise DamagedPart(f"it ends after {len(data)} of {member.size} bytes of this member")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(self, act: Callable[[], Result], beyond: int) -> Result:
        """Act on the file; where it is damaged, remember that nothing from `beyond` on can be had."""
        try:
            return act()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            self._broken = (beyond, why)
            raise DamagedPart(why) from None


def list_part(path: Path) -> Listing:
    """Return what the part at `path` holds, from the cache folder if it was listed before.

    The first time it is read to its end: a tar from header to header, a compressed one whole. Raises OSError.
    """
    found = noted(note_path(path, "parts"), _LIST_VERSION, lambda: asdict(_list(path)))
    return Listing([Member(*member) for member in found["members"]], found["damage"])


def list_parts(paths: list[Path]) -> list[Listing]:
    """Return what each part holds; those that were not listed before are listed side by side."""
    new = [path for path in paths if not note_path(path, "parts").exists()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        listed = pool.map(list_part, new)
        for _ in progress(listed, desc="listing parts", total=len(new), unit="part", disable=not new):
            pass
    return [list_part(path) for path in paths]


def _list(path: Path) -> Listing:
    members: list[Member] = []
    damage: list[str] = []
    with Part(path) as part:
        try:
            # What is no header is passed over, block by block, to the next one.
            with tarfile.open(
                fileobj=part, mode="r:", ignore_zeros=True, encoding="utf-8", errors="replace"
            ) as tar:  # type: ignore[call-overload]
                for found, strange in _headers(tar, part):
                    if strange is not None:
                        damage.append(f"at byte {strange} there is no header")
                    if found is None or not found.isreg() or found.issparse():
                        continue
                    if len(members) == _MOST:
                        raise DamagedPart(f"it has more than {_MOST} members")
                    members.append(Member(found.name, found.offset_data, found.size))
        except (tarfile.TarError, DamagedPart, ValueError, OverflowError) as error:
            damage.append(f"{error}, after {members[-1].name if members else 'nothing'}")
    return Listing(members, damage)


def _headers(tar: tarfile.TarFile, part: Part) -> Iterator[tuple[tarfile.TarInfo | None, int | None]]:
    """Yield every header, None last, and where what precedes it is no part of a tar."""
    while True:
        try:
            found = tar.next()
        except tarfile.ReadError:
            if part.tell() <= tar.offset:
                raise
            tar.offset = part.tell()  # of a header in two pieces the second is none: on with what follows
            continue
        tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
        # What leads back would be read for ever.
        if found is not None and (found.size < 0 or tar.offset <= found.offset):
            raise DamagedPart("a header names a negative size")
        begin = part.strange
        strange = begin is not None and (found is None or begin < found.offset)
        yield found, begin if strange else None
        if found is None:
            return
        part.strange = None


@lru_cache(maxsize=2)
def open_part(path: Path) -> Part:
    """Return the part at `path`, the same as long as this process reads few others."""
    return Part(path)
