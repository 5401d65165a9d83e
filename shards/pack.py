"""From a source to shards: plan, pack a part, merge. The same bytes however it was divided or stopped.

While a folder is being packed, `.packing/` in it holds the plan and, for every finished shard, its entry of
the manifest and its rejected clips. A shard gets its name when it is complete; `merge` writes `manifest.json`
and `rejected.jsonl` when all are there, and removes `.packing/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from cacl.errors import UserError
from cacl.files import locked, write_text
from shards import manifest as manifests
from shards.checksums import check_sha256
from shards.clip import Rejection
from shards.manifest import Manifest, shard_name
from shards.plan import PackPlan, refuse_other
from shards.progress import progress
from shards.workers import Done, run_jobs
from shards.writer import WORK, ShardWriter, read_entry

REJECTED = "rejected.jsonl"
_LIMIT, _CLIPS = "max-rejected.json", "clips.json"


def pack(
    plan: PackPlan, out: Path, *, workers: int = 1, part: tuple[int, int] = (1, 1), max_rejected: float = 1.0
) -> None:
    """Write the shards of `part` (k of n) that are not there yet. What is finished survives a UserError.

    Ends as soon as more than `max_rejected` (0..1) of all clips of the source are rejected, for then no more
    can help.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / _LIMIT, json.dumps(max_rejected), work)
    write_text(work / _CLIPS, json.dumps(plan.clips), work)
    _record_plan(plan, work)
    turn, parts = part
    with _alone(work / f"part-{turn}-of-{parts}.lock"):
        rows = [row for place, row in enumerate(plan.rows) if place % parts == turn - 1]
        numbers = [number for row in rows for number in row]
        for number in numbers:
            for leftover in work.glob(f"{shard_name(number)}.*"):
                leftover.unlink()
        entries = {number: read_entry(out, number) for number in numbers}
        missing = [[number for number in row if entries[number] is None] for row in rows]
        rejected = [clip for entry in entries.values() if entry for clip in entry.rejected]
        total = sum(plan.count(number) for number in numbers)
        done = total - sum(plan.count(number) for row in missing for number in row)
        seen: set[int] = set()
        with progress(desc=f"packing {plan.source.name}", total=total, initial=done, unit="clip") as bar:
            for event in run_jobs(ShardWriter(plan, out), missing, workers):
                if isinstance(event, Done):
                    rejected += event.result
                    _refuse_rejected(rejected, plan.clips, out, max_rejected)
                elif event.index not in seen:
                    seen.add(event.index)
                    bar.update()


def merge(plan: Manifest, out: Path, max_rejected: float | None = None) -> Manifest:
    """Write manifest and rejected list of a folder whose shards are all there; `plan` is its head.

    Raises UserError when shards are missing or no longer what was packed, or more than `max_rejected` (0..1)
    of the source's clips are rejected; None is the limit under which the last part was packed.
    """
    limit = json.loads((out / WORK / _LIMIT).read_text()) if max_rejected is None else max_rejected
    count = -(-plan.ids // plan.shard_size)
    entries = [read_entry(out, number) for number in range(count)]
    missing = [number for number, entry in enumerate(entries) if entry is None]
    if missing:
        raise UserError(
            f"{out}: {len(missing)} of {count} shards are not packed yet, {shard_name(missing[0])} first; "
            "pack the other parts, then: cacl pack merge --out " + str(out)
        )
    complete = [entry for entry in entries if entry is not None]
    remedy = "delete this file and pack its part again; what is whole is kept"
    for entry in progress(complete, desc=f"checking {out}", unit="shard"):
        check_sha256(out / entry.shard.url, entry.shard.sha256, remedy)
        check_sha256(out / entry.shard.index_url, entry.shard.index_sha256, remedy)
    rejected = [clip for entry in complete for clip in entry.rejected]
    recorded = out / WORK / _CLIPS
    clips = json.loads(recorded.read_text()) if recorded.exists() else plan.clips
    _refuse_rejected(rejected, clips, out, limit)
    manifest = replace(plan, shards=tuple(entry.shard for entry in complete))
    _write_rejected(rejected, out)
    write_text(out / manifests.NAME, manifest.to_json(), out / WORK)
    shutil.rmtree(out / WORK)
    return manifest


def _write_rejected(rejected: list[Rejection], out: Path) -> None:
    lines = [json.dumps(asdict(clip), ensure_ascii=False) + "\n" for clip in rejected]
    write_text(out / REJECTED, "".join(lines), out / WORK)


def _refuse_rejected(rejected: list[Rejection], clips: int, out: Path, max_rejected: float) -> None:
    # Not `max_rejected * clips`: 0.29 * 100 is less than 29, and 29 / 100 is the float that 0.29 means.
    # Of a cut source all clips count: a small side must not end for one that the whole would bear.
    if len(rejected) / clips > max_rejected:
        _write_rejected(rejected, out)
        raise UserError(
            f"{out / REJECTED}: {len(rejected)} of {clips} clips are rejected, more than --max-rejected "
            f"{max_rejected:g} allows; mend the source, or run again with a higher --max-rejected"
        )


def check_packed(plan: PackPlan, out: Path) -> Manifest:
    """Check that `out` holds what the plan would write, every byte of it; return its manifest.

    Raises UserError when it holds anything else or is damaged.
    """
    same = ("source", "parameters", "ids", "ids_sha256", "shard_size")
    refuse_other(vars(manifests.load(out)), json.loads(json.dumps(vars(plan.head))), str(out), same)
    return check_bytes(out)


def check_bytes(out: Path) -> Manifest:
    """Return the manifest of packed shards, and remove what a killed `merge` left.

    Raises UserError when a shard or its index is missing or not the one of the manifest.
    """
    manifest = manifests.load(out)
    remedy = "copy it again, or remove the folder and pack again"
    for shard in progress(manifest.shards, desc=f"checking {out}", unit="shard"):
        for name, sha256 in ((shard.url, shard.sha256), (shard.index_url, shard.index_sha256)):
            check_sha256(out / name, sha256, remedy)
    shutil.rmtree(out / WORK, ignore_errors=True)
    return manifest


def read_plan(out: Path) -> Manifest:
    """Return the head of the manifest that a folder is being packed to."""
    path = out / WORK / "plan.json"
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{out}: no packing is under way here; begin with: cacl pack SOURCE") from None
    return Manifest(**{**values, "shards": ()})


def _record_plan(plan: PackPlan, work: Path) -> None:
    path = work / "plan.json"
    ours = json.loads(json.dumps({**vars(plan.head), "shards": []}))
    if not path.exists():
        write_text(path, json.dumps(ours, indent=1), work)
    theirs = json.loads(path.read_text())
    refuse_other(theirs, ours, str(work.parent), ours.keys())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with locked(path, wait=False) as alone:
        if not alone:
            raise UserError(f"{path}: another process packs this part; wait for it or end it")
        yield
