"""Which training clips stand in test lists, a list without them, and a stable validation split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shards.progress import progress
from shards.sources.lists import read_list
from shards.sources.vggss import read_annotations
from shards.store import open_store


@dataclass(frozen=True)
class Leak:
    """What a training set and a test list share."""

    same_clip: list[str]
    """Ids that stand in both, sorted."""
    same_video: list[str]
    """Training ids that are another part of a tested YouTube video, sorted."""


def read_ids(what: Path) -> dict[str, str]:
    """Return id → class ("" where unknown) of packed shards (a folder), of `vggss.json`, or of a list.

    The frame and the sound of a pair count both. Raises UserError where `what` is none of them.
    """
    if what.is_dir():
        store = open_store(what)
        indices = progress(store.indices, desc=f"reading {what}", unit="clip")
        known = (store.annotation(index) for index in indices)
        return {each["id"]: each.get("class_name", "") for each in known}
    if what.suffix == ".json":
        return {id: label for id, (label, _) in read_annotations(what).items()}
    return {id: "" for pick in read_list(what) for id in (pick.video, pick.audio)}


def find_leak(training: Iterable[str], test: Iterable[str]) -> Leak:
    """Compare two sets of ids."""
    tested = set(test)
    videos = {video(id) for id in tested} - {None}
    same_clip = sorted(id for id in training if id in tested)
    same_video = sorted(id for id in training if id not in tested and video(id) in videos)
    return Leak(same_clip, same_video)


def video(id: str) -> str | None:
    """Return the YouTube id in `<11 characters>_<start, six digits>`, None where `id` is not of that form."""
    name, _, start = id.rpartition("_")
    return name if len(name) == 11 and len(start) == 6 and start.isdecimal() else None


def validation_split(classes: Mapping[str, str], share: float) -> list[str]:
    """Choose `share` (0..1) of each class, rounded, by the ids' hashes; sorted.

    The choice depends on the ids alone, in no order: clips that come or go elsewhere change nothing, and in
    a class they move no more clips than they are.
    """
    by_class: dict[str, list[str]] = defaultdict(list)
    for id, name in classes.items():
        by_class[name].append(id)
    chosen = []
    for ids in by_class.values():
        ids.sort(key=lambda id: hashlib.sha256(id.encode()).digest())
        chosen += ids[: round(share * len(ids))]
    return sorted(chosen)
