"""Work over every clip in fixed units, so that the number of ranks and a restart change no result.

A unit is `UNIT` neighbors in the list of stored indices, whatever rank it falls to, and leaves one file; a
killed run goes on with the units that have none. Two jobs that do the same at once may both write a unit's
file, which is the same one; the last of them removes all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cacl.errors import UserError, shorten
from cacl.files import locked, written
from cacl.processes import closing
from cacl.threads import torch_threads
from cacl.types import Batch
from cacl.world import World

UNIT = 64
"""Clips of a unit; part of the result, since a network may round otherwise in another batch."""

_THREADS = 1
"""Threads of one operation, whatever the machine: another number of threads adds up in another order."""

Arrays = dict[str, npt.NDArray[Any]]


def resumable_map(
    indices: npt.NDArray[np.int64],
    batches: Callable[[npt.NDArray[np.int64]], Iterator[Batch]],
    work: Callable[[Batch], Arrays],
    folder: Path,
    identity: Mapping[str, Any],
    world: World,
    progress: Callable[[int], Any] = lambda clips: None,
) -> Arrays | None:
    """Return what `work` makes of all clips at `indices` [N], joined in order, on rank 0 (None on others).

    `batches(some)` yields these clips in order, `UNIT` at a time. `work` returns arrays with a row a clip;
    clips that are not valid are left out, and the result's "index" names those that stay. `folder` keeps
    what is done, each `identity` in a folder of its own. `progress(clips)` is called as clips are done.
    """
    units = [indices[start : start + UNIT] for start in range(0, len(indices), UNIT)]
    text = json.dumps({"unit": UNIT, "clips": len(indices), **identity}, sort_keys=True)
    folder = world.broadcast_object(folder / hashlib.sha256(text.encode()).hexdigest()[:16])
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
    # What is left is dealt anew, lest one rank of a resumed run has all of it.
    left = world.broadcast_object([k for k in range(len(units)) if not _file(folder, k).exists()])
    todo = left[world.rank :: world.size]
    progress(sum(map(len, units[world.rank :: world.size])) - sum(len(units[number]) for number in todo))
    asked = np.concatenate([units[number] for number in todo]) if todo else indices[:0]
    stream = batches(asked)
    with torch_threads(_THREADS), closing(stream):
        for number, batch in zip(todo, stream, strict=True):
            index = batch.index.cpu().numpy()
            if not np.array_equal(index, units[number]):
                raise ValueError(f"expected clips {units[number][:3]} ..., received {index[:3]} ...")
            keep = batch.valid.cpu().numpy()
            arrays = {name: rows[keep] for name, rows in work(batch).items()}
            _save(_file(folder, number), {"index": index[keep], **arrays})
            progress(len(index))
    world.barrier()
    if not world.is_main:
        return None
    parts = [_load(_file(folder, number)) for number in range(len(units))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def require_finite(arrays: Arrays, batch: Batch, maker: str) -> None:
    """Raise UserError that names the first valid clip of which `maker` made something that is not finite."""
    valid, index = batch.valid.cpu().numpy(), batch.index.cpu().numpy()
    for name, rows in arrays.items():
        finite = np.isfinite(rows).reshape(len(rows), -1).all(1)
        bad = index[~finite & valid]
        if len(bad):
            raise UserError(
                f"clip {bad[0]}: {name}: {maker} gives what is not a finite number; check its weights, "
                "or pack again without this clip"
            )


@contextmanager
def kept(folder: Path, world: World) -> Iterator[None]:
    """Have `resumable_map` keep what it does below `folder` until this ends well, its result written.

    Then the folder is removed, unless another job is within this too: the last one removes it.
    """
    if not world.is_main:
        yield
        return
    lock = folder.with_name(f"{folder.name}.lock")
    with locked(lock, shared=True):
        yield
    with locked(lock, wait=False) as alone:
        if alone:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _file(folder: Path, number: int) -> Path:
    return folder / f"unit-{number:07d}.npz"


def _load(file: Path) -> Arrays:
    """Return a unit's arrays. Raises UserError where its file is damaged."""
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file}: is damaged ({shorten(error)}); delete it and run again") from error


def _save(file: Path, arrays: Arrays) -> None:
    """Write a unit's file: complete or absent."""
    with written(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
