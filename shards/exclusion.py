"""Packed clips without those that a list names, as an audit writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from cacl.annotation import Annotation
from cacl.errors import UserError
from shards.order import Shards
from shards.progress import progress
from shards.sources.lists import forms, read_list


class AnnotatedShards(Protocol):
    """What is asked of a store."""

    @property
    def shards(self) -> Shards:
        """The clips of each shard: ascending int64 indices."""

    def annotation(self, index: int) -> Annotation:
        """Return what is known of a clip."""


def excluded(store: AnnotatedShards, file: Path) -> Shards:
    """Return the clips of each shard without those whose ids the list `file` names.

    A listed id that is no clip of the store is passed over: one list may serve several data sets. Raises
    UserError where the list cannot be read, or leaves nothing.
    """
    listed = {form for pick in read_list(file) for form in forms(pick.id)}
    clips = sum(map(len, store.shards))
    with progress(desc=f"leaving out {file}", total=clips, unit="clip", delay=1) as bar:
        left = []
        for shard in store.shards:
            named = [store.annotation(int(index)).id in listed for index in shard]
            left.append(shard[~np.array(named, np.bool_)])
            bar.update(len(shard))
    if clips and not any(map(len, left)):
        raise UserError(f"{file}: names every clip of the data set; nothing is left to train on")
    return left
