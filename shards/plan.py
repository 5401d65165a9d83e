"""What will be packed, fixed before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from cacl.errors import UserError
from shards.cut import Cut
from shards.manifest import LARGEST_SHARD, MOST_IDS, Manifest, digest
from shards.sources.base import Run, Source

GAP = ""
"""In place of an id: no clip has this index."""
_ENVIRONMENT = ("numpy", "pillow", "av", "soundfile", "scipy")


@dataclass(frozen=True)
class PackPlan:
    """All that decides over the bytes, fixed before anything is decoded."""

    source: Source
    ids: list[str]
    """By index: sorted, or run by run with `GAP` before those that would not begin a shard.

    With a cut, those of its side alone.
    """
    shard_size: int
    clips: int
    """How many ids the source has, with a cut those of both sides."""
    cut: Cut | None = None
    runs: tuple[int, ...] = ()
    """How many clips each run has, where the source is read part by part."""
    rows: tuple[range, ...] = ()
    """The shards that one process should write one after the other."""

    @property
    def head(self) -> Manifest:
        """The manifest without its shards."""
        return Manifest(
            source=self.source.name,
            parameters=self._parameters(),
            ids=len(self.ids),
            ids_sha256=digest(self.ids),
            shard_size=self.shard_size,
            shards=(),
            environment={name: version(name) for name in _ENVIRONMENT},
        )

    def _parameters(self) -> dict[str, Any]:
        runs = {"runs": list(self.runs)} if self.runs else {}
        return self.source.parameters() | runs | ({"cut": vars(self.cut)} if self.cut else {})

    @property
    def shards(self) -> int:
        """How many shards there will be."""
        return -(-len(self.ids) // self.shard_size)

    def indices(self, number: int) -> range:
        """Return the places of a shard, those of rejected clips and gaps included."""
        first = number * self.shard_size
        return range(first, min(first + self.shard_size, len(self.ids)))

    def count(self, number: int) -> int:
        """Return how many clips a shard has, rejected ones included."""
        return sum(self.ids[index] != GAP for index in self.indices(number))


def make_plan(source: Source, shard_size: int | None = None, cut: Cut | None = None) -> PackPlan:
    """Fix ids and shards of `source`, or of one side of it. Raises UserError when there is nothing to pack.

    A side is a data set of its own: its clips are counted from 0, and its fingerprint knows the cut.
    """
    size = shard_size or source.shard_size
    source = source.settled()
    runs = source.runs()
    clips = sum(len(run.ids) for run in runs)
    if not 1 <= size <= LARGEST_SHARD:
        raise UserError(f"--shard-size: {size} is not in 1 to {LARGEST_SHARD}")
    if not 1 <= clips <= MOST_IDS:
        raise UserError(f"{source.name}: there are {clips} clips to pack; 1 to {MOST_IDS} can be packed")
    _check(source, runs)
    if cut:
        runs = _side(source, runs, cut)
    ids, rows = _lay(runs, size)
    counts = tuple(len(run.ids) for run in runs if run.ids)
    return PackPlan(source, ids, size, clips, cut, () if source.order == "sorted" else counts, rows)


def _check(source: Source, runs: list[Run]) -> None:
    ids = [id for run in runs for id in run.ids]
    if source.order != "sorted":
        ids.sort()
    if any(a >= b for a, b in pairwise(ids)):
        raise RuntimeError(f"{source.name}: its ids are not sorted or not unique")


def _lay(runs: list[Run], size: int) -> tuple[list[str], tuple[range, ...]]:
    """Return the ids by index, each run from a multiple of the shard size on, and the rows of shards."""
    ids: list[str] = []
    rows: list[range] = []
    for run in runs:
        ids += [GAP] * (-len(ids) % size if run.ids else 0) + run.ids
        here = range(rows[-1].stop if rows else 0, -(-len(ids) // size))
        rows += [here] if run.streamed and here else [range(number, number + 1) for number in here]
    return ids, tuple(rows)


def _side(source: Source, runs: list[Run], cut: Cut) -> list[Run]:
    clips = sum(len(run.ids) for run in runs)
    runs = [run._replace(ids=[id for id in run.ids if cut.keeps(source.group(id))]) for run in runs]
    if not any(run.ids for run in runs):
        other = "larger" if cut.side == "validation" else "smaller"
        raise UserError(
            f"--validation-share {cut.share:g}: leaves none of the {clips} clips for the {cut.side} side; "
            f"give a {other} share, or another --validation-seed"
        )
    return runs


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
