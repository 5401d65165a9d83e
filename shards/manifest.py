"""The manifest of packed shards: what is there, and the fingerprint that names it.

`manifest.json` is a `wids` index (`shardlist` with `url`, `nsamples`, `filesize`) with more keys beside.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cacl.errors import UserError, brief, shorten
from cacl.files import regular
from shards.clip import Array

NAME = "manifest.json"
FORMAT_VERSION = 1
LARGEST_SHARD, MOST_IDS = 10**6, 10**8
"""Most clips of a shard, and of a data set, whose indices take a gigabyte. What claims more is refused."""
LARGEST_TEXT = 2**27
"""Bytes of a manifest, and of a shard's index: about 400,000 shards, and a million clips of one."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"shard-\d{6,9}\.tar")


@dataclass(frozen=True)
class Shard:
    """One tar file of the manifest."""

    url: str
    """File name, relative to the manifest."""
    nsamples: int
    filesize: int
    """Bytes."""
    sha256: str
    missing: tuple[int, ...]
    """Indices that belong here and were rejected, ascending."""
    index_filesize: int
    index_sha256: str
    """Of the index file beside it, which says where in the tar each member lies."""

    @property
    def index_url(self) -> str:
        """Name of the index file."""
        return self.url.removesuffix(".tar") + ".idx"


@dataclass(frozen=True)
class Manifest:
    """A packed data set, without dates and paths. Clip `k` lies in shard `k // shard_size`."""

    source: str
    parameters: dict[str, Any]
    ids: int
    """How many indices there are, those of rejected clips and gaps included."""
    ids_sha256: str
    shard_size: int
    shards: tuple[Shard, ...]
    environment: dict[str, str]
    """Versions of what decoded and encoded; no part of the fingerprint."""

    @property
    def fingerprint(self) -> str:
        """Sha256 of content and packing parameters, 64 hexadecimal digits."""
        named = [self.source, self.parameters, self.ids, self.ids_sha256, self.shard_size]
        content = [[shard.sha256, shard.missing] for shard in self.shards]
        return digest([FORMAT_VERSION, named, content])

    @property
    def gaps(self) -> Array:
        """Indices that no clip has, ascending int64: each run of a source in parts begins a shard."""
        gaps, end = [np.empty(0, np.int64)], 0
        for count in self.parameters.get("runs", [self.ids]):
            first = -(-end // self.shard_size) * self.shard_size
            gaps.append(np.arange(end, first, dtype=np.int64))
            end = first + count
        return np.concatenate(gaps)

    @property
    def clips(self) -> int:
        """How many clips the source has, rejected ones included."""
        return self.ids - len(self.gaps)

    def shard_indices(self, number: int) -> Array:
        """Return the stored clips of a shard, ascending int64."""
        first = number * self.shard_size
        here = np.arange(first, min(first + self.shard_size, self.ids), dtype=np.int64)
        return here[~np.isin(here, np.array(self.shards[number].missing, dtype=np.int64))]

    def to_json(self) -> str:
        """Return the text of `manifest.json`."""
        shards = [{**vars(shard), "missing": list(shard.missing)} for shard in self.shards]
        named = {key: value for key, value in vars(self).items() if key != "shards"}
        head = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "format_version": FORMAT_VERSION}
        return json.dumps({**head, "fingerprint": self.fingerprint, **named, "shardlist": shards}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Manifest:
        """Read the text of a manifest that lies at `where`.

        Raises UserError when it is no manifest, of an unknown version, or not what its fingerprint says.
        """
        try:
            values = json.loads(text)
            version = values["format_version"]
        except _NO_SUCH_VALUES as error:
            raise UserError(
                f"{where}: is not a manifest of packed shards ({shorten(repr(error))}); pack again"
            ) from None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{where}: format_version is {version!r} and this release reads {FORMAT_VERSION}; "
                "install the release that packed it, or pack again"
            )
        try:
            manifest = cls(
                **{key: values[key] for key in ("source", "parameters", "ids", "ids_sha256", "shard_size")},
                shards=tuple(_shard(entry) for entry in values["shardlist"]),
                environment=values["environment"],
            )
            manifest._check()
            if manifest.fingerprint != values["fingerprint"]:
                raise ValueError("its fingerprint does not fit its content")
        except _NO_SUCH_VALUES as error:
            raise UserError(
                f"{where}: is damaged ({shorten(repr(error))}); copy it again or pack again"
            ) from None
        return manifest

    def _check(self) -> None:
        for name, kind in (("source", str), ("parameters", dict), ("ids", int), ("ids_sha256", str),
                           ("shard_size", int), ("environment", dict)):  # fmt: skip
            if type(getattr(self, name)) is not kind:
                raise TypeError(f"{name} is {brief(getattr(self, name))}")
        if not all(isinstance(version, str) for version in self.environment.values()):
            raise TypeError("environment holds no names of versions")
        if not (1 <= self.shard_size <= LARGEST_SHARD and 1 <= self.ids <= MOST_IDS):
            raise ValueError(f"{self.ids} ids in shards of {self.shard_size}")
        if len(self.shards) != -(-self.ids // self.shard_size):
            raise ValueError(f"{self.ids} ids do not make {len(self.shards)} shards of {self.shard_size}")
        self._check_runs()
        # They name files of the cache, and what is named by a file may lie anywhere.
        hashes = [value for shard in self.shards for value in (shard.sha256, shard.index_sha256)]
        if wrong := [value for value in (self.ids_sha256, *hashes) if not _SHA256.fullmatch(value)]:
            raise ValueError(f"{brief(wrong[0])} is no sha256")
        for number, shard in enumerate(self.shards):
            if min(shard.filesize, shard.index_filesize) < 0:
                raise ValueError(f"{shard.url}: has a negative size")
            if shard.index_filesize > LARGEST_TEXT:
                raise ValueError(f"{shard.url}: its index has more than {LARGEST_TEXT} bytes")
            if not _SHARD.fullmatch(shard.url) or shard.url != shard_name(number):
                raise ValueError(f"shard {number} is named {shard.url!r}")
            if len(self.shard_indices(number)) != shard.nsamples:
                raise ValueError(f"{shard.url}: nsamples does not fit its missing clips")

    def _check_runs(self) -> None:
        """Raise ValueError or TypeError where the runs do not make the indices."""
        runs, end = self.parameters.get("runs", [self.ids]), 0
        if type(runs) is not list or not all(type(count) is int and count >= 1 for count in runs):
            raise TypeError(f"parameters.runs is {brief(runs)}")
        for count in runs:
            end = -(-end // self.shard_size) * self.shard_size + count
        if end != self.ids:
            raise ValueError(f"parameters.runs end at {brief(end)} of {self.ids} ids")


_NO_SUCH_VALUES = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What reading values raises where there are none of the expected form, or numbers such as Infinity."""


def load(folder: Path) -> Manifest:
    """Read the manifest in `folder`. Raises UserError when there is none."""
    path = folder / NAME
    try:
        text = regular(path, "copy it again or pack again", LARGEST_TEXT).read_bytes()
        return Manifest.from_json(text, str(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(
            f"{path}: there is no manifest; pack first: cacl pack SOURCE --out {folder}"
        ) from None


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06d}.tar"


def digest(values: Any) -> str:
    """Return the sha256 of plain values, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _shard(entry: dict[str, Any]) -> Shard:
    missing = tuple(int(index) for index in entry["missing"])
    counts = int(entry["nsamples"]), int(entry["filesize"])
    index = int(entry["index_filesize"]), str(entry["index_sha256"])
    return Shard(str(entry["url"]), *counts, str(entry["sha256"]), missing, *index)
