"""What will be packed, fixed before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from cacl.errors import UserError
from shards.manifest import LARGEST_SHARD, MOST_IDS, Manifest, digest
from shards.sources.base import Source

_ENVIRONMENT = ("numpy", "pillow", "av", "soundfile", "scipy")


@dataclass(frozen=True)
class PackPlan:
    """All that decides over the bytes, fixed before anything is decoded."""

    source: Source
    ids: list[str]
    shard_size: int

    @property
    def head(self) -> Manifest:
        """The manifest without its shards."""
        return Manifest(
            source=self.source.name,
            parameters=self.source.parameters(),
            ids=len(self.ids),
            ids_sha256=digest(self.ids),
            shard_size=self.shard_size,
            shards=(),
            environment={name: version(name) for name in _ENVIRONMENT},
        )

    @property
    def shards(self) -> int:
        """How many shards there will be."""
        return -(-len(self.ids) // self.shard_size)

    def indices(self, number: int) -> range:
        """Return the clips of a shard, rejected ones included."""
        first = number * self.shard_size
        return range(first, min(first + self.shard_size, len(self.ids)))


def make_plan(source: Source, shard_size: int | None = None) -> PackPlan:
    """Fix ids and shards of `source`. Raises UserError when there is nothing to pack."""
    size = shard_size or source.shard_size
    ids = source.ids()
    if not 1 <= size <= LARGEST_SHARD:
        raise UserError(f"--shard-size: {size} is not in 1 to {LARGEST_SHARD}")
    if not 1 <= len(ids) <= MOST_IDS:
        raise UserError(f"{source.name}: there are {len(ids)} clips to pack; 1 to {MOST_IDS} can be packed")
    if any(a >= b for a, b in pairwise(ids)):
        raise RuntimeError(f"{source.name}: its ids are not sorted or not unique")
    return PackPlan(source, ids, size)


def refuse_other(theirs: dict[str, Any], ours: dict[str, Any], where: str, keys: Any) -> None:
    """Raise UserError when what lies in a folder was packed with other parameters."""
    for key in keys:
        if theirs[key] != ours[key]:
            raise UserError(
                f"{where}: holds clips packed with another {key} ({_difference(theirs[key], ours[key])}); "
                "choose another --out or remove that folder"
            )


def _difference(theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        key = next(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
        return f"{key}: {_difference(theirs.get(key), ours.get(key))}"
    return f"{theirs!r} there, {ours!r} asked for"
