"""Packed shards, read at any place: which clips there are, and the members of one of them."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from cacl.annotation import Annotation
from cacl.errors import UserError, shorten
from cacl.files import regular
from shards import manifest as manifests
from shards.annotation import BrokenAnnotation, parse_annotation
from shards.clip import Array
from shards.manifest import Manifest, shard_name
from shards.remote import RemoteFiles

MEMBER_LIMIT = 64 * 2**20
"""Bytes; a larger member is refused, and a sample that spans more, whoever made the shard."""
_OPEN_SHARDS = 64
_INDEX_VERSION = "v1.2"
_MEMBER = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")


class ShardFiles(Protocol):
    """Where the shards lie."""

    location: str

    def local(self, name: str, sha256: str, size: int) -> Path:
        """Return a path on this machine of the file `name`, which has `size` bytes and that sha256."""
        ...

    def prefetch(self, files: Sequence[tuple[str, str, int]]) -> None:
        """Begin to fetch files (name, sha256, size) that will be asked for soon."""
        ...


class LocalFiles:
    """Shards in a folder of this machine. Sizes are checked; `cacl shards verify` checks every byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.location = str(folder)

    def local(self, name: str, sha256: str, size: int) -> Path:
        """Return the path of the file `name`. Raises UserError when it is missing or of another size."""
        path = self.folder / name
        try:
            found = regular(path, "copy it again or pack again").stat().st_size
        except FileNotFoundError:
            raise UserError(f"{path}: is missing; copy it again or pack again") from None
        if found != size:
            raise UserError(f"{path}: has {found} bytes, not {size}; copy it again or pack again")
        return path

    def prefetch(self, files: Sequence[tuple[str, str, int]]) -> None:
        """Do nothing: the files are here."""


class Store:
    """Random access to packed clips. May be shared by threads, forked and pickled."""

    def __init__(self, manifest: Manifest, files: ShardFiles) -> None:
        self.manifest = manifest
        self.files = files
        self._opened: OrderedDict[int, _OpenShard] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """Sha256 that names content and packing parameters."""
        return self.manifest.fingerprint

    @cached_property
    def shards(self) -> list[Array]:
        """The stored clips of each shard: ascending int64 indices."""
        return [self.manifest.shard_indices(number) for number in range(len(self.manifest.shards))]

    @cached_property
    def indices(self) -> Array:
        """Every stored clip, [N] int64, ascending."""
        return np.concatenate([*self.shards, np.empty(0, np.int64)])

    @property
    def capacity(self) -> int:
        """The first index after the last shard's room."""
        return len(self.manifest.shards) * self.manifest.shard_size

    def read(self, index: int) -> dict[str, bytes]:
        """Return the members of clip `index` by extension (jpg, wav, json ...).

        Raises UserError, naming shard and clip, when the clip is not stored or its shard is damaged, and
        OSError when the storage fails.
        """
        return self._shard_of(int(index)).read(int(index))

    def annotation(self, index: int) -> Annotation:
        """Return what was packed about clip `index`, without masks, reading no more than that.

        Raises as `read` does, and UserError when the annotation is malformed.
        """
        data = self._shard_of(int(index)).read(int(index), only="json").get("json", b"")
        try:
            return parse_annotation(data).annotation
        except BrokenAnnotation as error:
            raise UserError(f"{self.where(index)}: {error}; copy it again or pack again") from None

    def prefetch(self, indices: Array) -> None:
        """Begin to fetch the shards of clips [n] int64 that will be read soon."""
        for number in np.unique(indices // self.manifest.shard_size):
            entry = self.manifest.shards[number]
            index = (entry.index_url, entry.index_sha256, entry.index_filesize)
            self.files.prefetch([index, (entry.url, entry.sha256, entry.filesize)])

    def where(self, index: int) -> str:
        """Return where clip `index` lies, as a message names it: shard and key."""
        return f"{self.files.location}/{shard_name(int(index) // self.manifest.shard_size)}: {index:09d}"

    def _shard_of(self, index: int) -> _OpenShard:
        number = index // self.manifest.shard_size
        if not 0 <= number < len(self.manifest.shards) or index in self.manifest.shards[number].missing:
            raise UserError(f"{self.files.location}: clip {index} is not stored (rejected or none)")
        return self._shard(number)

    def _shard(self, number: int) -> _OpenShard:
        shard = self._opened.get(number)
        if shard is None:
            entry = self.manifest.shards[number]
            index = self.files.local(entry.index_url, entry.index_sha256, entry.index_filesize)
            places = read_index(index, entry.filesize)  # at once: a small cache may soon drop the file
            shard = _OpenShard(self.files.local(entry.url, entry.sha256, entry.filesize), places)
            self._opened[number] = shard
            # A thread that still reads from a dropped shard keeps its file open by holding the object.
            while len(self._opened) > _OPEN_SHARDS:
                self._opened.popitem(last=False)
        return shard

    def __getstate__(self) -> dict[str, Any]:
        return {"manifest": self.manifest, "files": self.files, "_opened": OrderedDict()}


def open_store(location: str | Path) -> Store:
    """Open the packed shards at `location`, a folder or an address such as s3://bucket/train.

    Raises UserError when there are none, and OSError when the address cannot be reached.
    """
    if "://" in str(location):
        remote = RemoteFiles(str(location))
        name = f"{remote.location}/{manifests.NAME}"
        return Store(Manifest.from_json(remote.read(manifests.NAME), name), remote)
    folder = Path(location)
    return Store(manifests.load(folder), LocalFiles(folder))


Places = dict[int, dict[str, tuple[int, int]]]
"""Clip index → extension → (offset, bytes) in the tar."""


def read_index(path: Path, filesize: int) -> Places:
    """Read a DALI index file (version 1.2) of a tar of `filesize` bytes.

    Raises UserError when a line does not parse or points out of the tar.
    """
    try:
        lines = path.read_text().splitlines()
        version, count = lines[0].split()
        if version != _INDEX_VERSION or int(count) != len(lines) - 1:
            raise ValueError(f"expected {_INDEX_VERSION} and a line a sample")
        places: Places = {}
        for line in lines[1:]:
            fields = line.split()
            for extension, offset, size, name in zip(*[iter(fields)] * 4, strict=True):
                place = int(offset), int(size)
                key = _key(name, extension)
                if min(place) < 0 or sum(place) > filesize or place[1] > MEMBER_LIMIT:
                    raise ValueError(f"{name} lies out of the tar or is over {MEMBER_LIMIT} bytes")
                places.setdefault(key, {})[extension] = place
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path}: is no index of a shard ({shorten(error)}); copy it again or pack again"
        ) from None
    return places


def write_index(places: Places) -> str:
    """Return the text of a DALI index file (version 1.2)."""
    lines = [f"{_INDEX_VERSION} {len(places)}"]
    for key, found in places.items():
        lines.append(" ".join(f"{ext} {at} {size} {key:09d}.{ext}" for ext, (at, size) in found.items()))
    return "\n".join(lines) + "\n"


def _key(name: str, extension: str) -> int:
    key, _, rest = name.partition(".")
    if rest != extension or not _MEMBER.fullmatch(extension) or not (key.isdecimal() and len(key) == 9):
        raise ValueError(f"{name!r} is no member of a sample")
    return int(key)


class _OpenShard:
    def __init__(self, path: Path, places: Places) -> None:
        self.path = path
        self.places = places
        self.file: BinaryIO = path.open("rb")

    def read(self, index: int, only: str | None = None) -> dict[str, bytes]:
        if index not in self.places:
            raise UserError(f"{self.path}: clip {index} is not in its index; copy it again or pack again")
        places = self.places[index]
        if only is not None:
            places = {name: place for name, place in places.items() if name == only}
        # One read a sample: its members lie one behind the other.
        first = min((offset for offset, _ in places.values()), default=0)
        last = max((offset + size for offset, size in places.values()), default=0)
        if last - first > MEMBER_LIMIT:
            raise UserError(f"{self.path}: clip {index} spans {last - first} bytes; {MEMBER_LIMIT} are read")
        data = os.pread(self.file.fileno(), last - first, first)
        if len(data) != last - first:
            raise UserError(f"{self.path}: ends within clip {index}; copy it again or pack again")
        return {name: data[at - first : at - first + size] for name, (at, size) in places.items()}
