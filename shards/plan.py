"""What will be packed, fixed before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from cacl.errors import UserError
from shards.cut import Cut
from shards.manifest import LARGEST_SHARD, MOST_IDS, Manifest, digest
from shards.sources.base import Source

_ENVIRONMENT = ("numpy", "pillow", "av", "soundfile", "scipy")


@dataclass(frozen=True)
class PackPlan:
    """All that decides over the bytes, fixed before anything is decoded."""

    source: Source
    ids: list[str]
    """Sorted; with a cut, those of its side alone."""
    shard_size: int
    clips: int
    """How many ids the source has, with a cut those of both sides."""
    cut: Cut | None = None

    @property
    def head(self) -> Manifest:
        """The manifest without its shards."""
        return Manifest(
            source=self.source.name,
            parameters=self.source.parameters() | ({"cut": vars(self.cut)} if self.cut else {}),
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


def make_plan(source: Source, shard_size: int | None = None, cut: Cut | None = None) -> PackPlan:
    """Fix ids and shards of `source`, or of one side of it. Raises UserError when there is nothing to pack.

    A side is a data set of its own: its clips are counted from 0, and its fingerprint knows the cut.
    """
    size = shard_size or source.shard_size
    ids = source.ids()
    if not 1 <= size <= LARGEST_SHARD:
        raise UserError(f"--shard-size: {size} is not in 1 to {LARGEST_SHARD}")
    if not 1 <= len(ids) <= MOST_IDS:
        raise UserError(f"{source.name}: there are {len(ids)} clips to pack; 1 to {MOST_IDS} can be packed")
    if any(a >= b for a, b in pairwise(ids)):
        raise RuntimeError(f"{source.name}: its ids are not sorted or not unique")
    return PackPlan(source, _side(source, ids, cut) if cut else ids, size, len(ids), cut)


def _side(source: Source, ids: list[str], cut: Cut) -> list[str]:
    kept = [id for id in ids if cut.keeps(source.group(id))]
    if not kept:
        other = "larger" if cut.side == "validation" else "smaller"
        raise UserError(
            f"--validation-share {cut.share:g}: leaves none of the {len(ids)} clips for the {cut.side} side; "
            f"give a {other} share, or another --validation-seed"
        )
    return kept


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
