"""Write the clips of a source into shards, or finish a folder whose parts were packed on several machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cacl.errors import UserError
from shards import pack as packing
from shards.cut import SHARE, Cut
from shards.manifest import NAME, Manifest
from shards.plan import PackPlan, make_plan
from shards.sources.base import Source


def pack(
    source: Source,
    out: Path,
    *,
    workers: int = 1,
    shard_size: int | None = None,
    part: tuple[int, int] = (1, 1),
    max_rejected: float = 0.05,
) -> Manifest | None:
    """Pack `part` (k of n) of the source into the folder `out`; what was begun is continued.

    Returns the manifest of finished shards, or None if there are other parts to pack and to merge. What is
    packed already is checked, every byte of it. `shard_size` None is the source's own. Raises UserError if
    the folder holds other clips, or more than `max_rejected` (0..1) of all clips are rejected.
    """
    with _failures_of(out):
        return _pack(make_plan(source, shard_size), out, workers, part, max_rejected)


def pack_both(
    source: Source,
    out: Path,
    validation: Path,
    *,
    share: float = SHARE,
    seed: int = 0,
    workers: int = 1,
    shard_size: int | None = None,
    part: tuple[int, int] = (1, 1),
    max_rejected: float = 0.05,
) -> dict[Path, Manifest | None]:
    """Cut the source in two: pack a validation split into the folder `validation`, the rest into `out`.

    `share` (0..1) of the groups, such as whole films, goes to validation, by the hashes of their names and
    `seed` (see `shards.cut`). Each folder is packed as `pack` does it, with rejected clips of its own, of
    which it may have `max_rejected` (0..1) of all clips of the source; returns what `pack` returns of each.
    Raises UserError as it does, if both folders are one, or if a side has no clip.
    """
    if validation.resolve() == out.resolve():
        raise UserError(f"--validation {validation}: is the folder of --out; give another one")
    with _failures_of(out):
        plans = {
            out: make_plan(source, shard_size, Cut("train", share, seed)),
            validation: make_plan(source, shard_size, Cut("validation", share, seed)),
        }
    found = {}
    for folder, plan in plans.items():
        with _failures_of(folder):
            found[folder] = _pack(plan, folder, workers, part, max_rejected)
    return found


def _pack(
    plan: PackPlan, out: Path, workers: int, part: tuple[int, int], max_rejected: float
) -> Manifest | None:
    if is_packed(out):
        return packing.check_packed(plan, out)
    plan.source.check_files()
    packing.pack(plan, out, workers=workers, part=part, max_rejected=max_rejected)
    return packing.merge(plan.head, out, max_rejected) if part[1] == 1 else None


def merge(out: Path, *, max_rejected: float | None = None) -> Manifest:
    """Finish a folder whose parts are all packed, or check a finished one; return its manifest.

    `max_rejected` None is the limit of the parts. Raises UserError if a part is missing.
    """
    with _failures_of(out):
        if is_packed(out):
            return packing.check_bytes(out)
        return packing.merge(packing.read_plan(out), out, max_rejected)


def is_packed(out: Path) -> bool:
    """Say whether a folder holds finished shards."""
    return (out / NAME).exists()


@contextmanager
def _failures_of(out: Path) -> Iterator[None]:
    """Make one sentence of a storage that fails."""
    try:
        yield
    except OSError as error:
        where = error.filename or out
        raise UserError(
            f"{where}: {error.strerror}; what is finished is kept: mend it and run again"
        ) from error
