"""One shard, written so that it is complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cacl.files import write_text
from shards.clip import Clip, Rejection, members
from shards.manifest import Shard, shard_name
from shards.plan import GAP, PackPlan
from shards.store import Places, write_index
from shards.workers import Report

WORK = ".packing"
"""Folder of what is needed until the last shard is there: the plan, an entry for each finished shard."""


@dataclass(frozen=True)
class Entry:
    """A finished shard, as `.packing/` keeps it."""

    shard: Shard
    rejected: list[Rejection]


@dataclass(frozen=True)
class ShardWriter:
    """The job of a packing process: read the clips of one shard and write it."""

    plan: PackPlan
    out: Path

    def __call__(self, number: int, crashed: dict[int, str], report: Report) -> list[Rejection]:
        """Write shard `number`: first the index, then the tar, last its entry. Return the rejected clips."""
        work, name = self.out / WORK, shard_name(number)
        places: Places = {}
        rejected: list[Rejection] = []
        partial = work / f"{name}.{os.getpid()}"
        with TarWriter(partial) as tar:
            for index, clip in self._read(number, crashed, report):
                if isinstance(clip, Rejection):
                    rejected.append(clip)
                else:
                    places[index] = tar.add(index, members(clip, index, self.plan.source.storage))
        missing = tuple(index for index in self.plan.indices(number) if index not in places)
        text = write_index(places)
        index_sha256 = hashlib.sha256(text.encode()).hexdigest()
        shard = Shard(name, len(places), tar.size, tar.sha256, missing, len(text), index_sha256)
        write_text(self.out / shard.index_url, text, work)
        os.replace(partial, self.out / name)
        entry = {"shard": asdict(shard), "rejected": [asdict(clip) for clip in rejected]}
        write_text(work / f"{number:06d}.json", json.dumps(entry), work)
        return rejected

    def _read(
        self, number: int, crashed: dict[int, str], report: Report
    ) -> Iterator[tuple[int, Clip | Rejection]]:
        for index in self.plan.indices(number):
            id = self.plan.ids[index]
            if id == GAP:
                continue
            report(index)
            if index in crashed:
                yield index, Rejection(id, crashed[index])
                continue
            self.plan.source.approach(id, partial(report, index))
            yield index, self.plan.source.read(id)


def read_entry(out: Path, number: int) -> Entry | None:
    """Return the entry of a shard that is complete and undamaged."""
    try:
        values = json.loads((out / WORK / f"{number:06d}.json").read_text())
        shard = Shard(**{**values["shard"], "missing": tuple(values["shard"]["missing"])})
        sizes = [(out / url).stat().st_size for url in (shard.url, shard.index_url)]
        if sizes != [shard.filesize, shard.index_filesize]:
            return None
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return Entry(shard, [Rejection(**clip) for clip in values["rejected"]])


class TarWriter:
    """A tar without dates and owners, its sha256 taken on the way."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._file = path.open("wb")
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def add(self, index: int, found: dict[str, bytes]) -> dict[str, tuple[int, int]]:
        """Append the members of a sample; return where they lie, (offset, bytes)."""
        places = {}
        for extension, data in found.items():
            header = tarfile.TarInfo(f"{index:09d}.{extension}")
            header.size = len(data)
            self._put(header.tobuf(tarfile.USTAR_FORMAT))
            places[extension] = (self.size, len(data))
            self._put(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return places

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._put(bytes(2 * tarfile.BLOCKSIZE))
                self._file.flush()
                os.fsync(self._file.fileno())
