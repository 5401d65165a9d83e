"""Which training clips stand in test lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.progress import progress
from shards.sources.boxes import read_boxes
from shards.sources.lists import find_form, forms, read_list
from shards.store import open_store
from shards.youtube import youtube_video


@dataclass(frozen=True)
class Leak:
    """What a training set and a test list share."""

    same_clip: list[str]
    """Ids that stand in both, sorted."""
    same_video: list[str]
    """Training ids that are another part of a tested YouTube video, sorted."""


def read_ids(what: Path) -> set[str]:
    """Return the ids of packed shards (a folder), of `vggss.json`, or of a list.

    The frame and the sound of a pair count both. Raises UserError where `what` is none of them.
    """
    if what.is_dir():
        store = open_store(what)
        indices = progress(store.indices, desc=f"reading {what}", unit="clip")
        return {store.annotation(index).id for index in indices}
    if what.suffix == ".json":
        return set(read_boxes(what))
    return {id for pick in read_list(what) for id in (pick.video, pick.audio)}


def find_leak(training: Iterable[str], test: Iterable[str]) -> Leak:
    """Compare two sets of ids."""
    tested = {form for id in test for form in forms(id)}
    videos = {youtube_video(id) for id in tested} - {None}
    same_clip = sorted(id for id in training if find_form(id, tested) in tested)
    same_video = sorted(set(training) - set(same_clip))
    same_video = [id for id in same_video if youtube_video(id) in videos]
    return Leak(same_clip, same_video)
