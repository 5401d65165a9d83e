"""Whether the test clips of an evaluation were trained on, as far as names tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from cacl.errors import UserError, shorten
from launch.jobs.recipe import DataOptions
from shards.audit import compare_names
from shards.named import clips_of
from shards.sources.lists import forms
from shards.store import Store, open_store

_NAMED = 5
"""Clips that a record names."""


def training_leaks(
    data: DataOptions, test: Store, ids: Collection[str] | None = None
) -> list[dict[str, Any]] | None:
    """Return what each data set of a training shares with test clips, or those of `ids`, as names tell.

    Data sets that share nothing are left out. None where one cannot be compared: it is no longer there, or
    lies elsewhere, where reading every name would fetch every shard.
    """
    wanted = None if ids is None else {form for id in ids for form in forms(id)}
    tested = [clip for clip in clips_of(test) if wanted is None or clip.id in wanted]
    found = []
    for path in _paths(data):
        if "://" in path:
            return None
        try:
            training = clips_of(open_store(path))
        except (UserError, OSError):
            return None
        leak = compare_names(training, tested)
        ids_shared = sorted(set[str]().union(*(shared.tested for shared in leak.values())))
        if ids_shared:
            counts = {f"same_{kind}": len(shared.tested) for kind, shared in leak.items()}
            found.append({"training": path, **counts, "clips": ids_shared[:_NAMED]})
    return found


def warning(leaks: Sequence[dict[str, Any]], test: Store) -> str:
    """Return one sentence on what was found."""
    where = test.files.location
    shared = "; ".join(
        f"{leak['training']} has {leak['same_clip']} of them, {leak['same_moment']} in part, and other parts "
        f"of the films of {leak['same_film']}, such as {shorten(leak['clips'][0])}"
        for leak in leaks
    )
    return (
        f"the training data share clips with {where}, and the numbers are too good: {shared} (see "
        f"cacl shards audit {leaks[0]['training']} --against {where})"
    )


def _paths(data: DataOptions) -> list[str]:
    sounds = [source.sounds.path for source in data.sources if source.sounds is not None]
    return list(dict.fromkeys([*(source.path for source in data.sources), *sounds]))
