"""Whose sound is played as one of something off-screen: another clip's, drawn by seed, clip and repetition.

Classes say what is off-screen, by the groups of `sources/vggsound_groups.csv`. That table is our own, made by
hand from the names of VGG-Sound's 309 classes: the public evaluator of negative sound does not come with its
meta-classes. A class that is not VGG-Sound's is a group of its own.

Axes: `N` clips of the data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from cacl.annotation import Annotation
from cacl.errors import UserError
from shards.clip import Array
from shards.order import OFFSCREEN, random_words

By = Literal["group", "label", "any"]
"""What tells that a sound is off-screen: its class's group, its label, or only that it is another's."""
Marks = frozenset[str]
_TRIES = 16


@lru_cache(maxsize=1)
def groups() -> dict[str, str]:
    """Return the group of each of VGG-Sound's 309 classes."""
    from shards.sources.lists import read_rows

    rows = read_rows(Path(__file__).parent / "sources" / "vggsound_groups.csv")
    return dict((name, group) for name, group in rows[1:])


class OffScreen:
    """Other clips' sounds for every clip of a data set."""

    def __init__(self, indices: Array, notes: Sequence[Annotation], labels: Array | None = None) -> None:
        """Take the clips `indices` [N] with their annotations, and their pseudo-labels [N] if there are any.

        Classes decide where every clip in which something is heard has one, then labels, where -1 is unknown.
        """
        self._indices, self._notes = indices, notes
        self._row = {int(index): row for row, index in enumerate(indices.tolist())}
        self.by: By = "any" if labels is None else "label"
        if notes and all(note.class_name for note in notes):
            self.by = "group"
        self._shown = [self._marks(row, labels, heard=False) for row in range(len(notes))]
        self._heard = [self._marks(row, labels, heard=True) for row in range(len(notes))]
        self._pools: dict[Marks, Array] = {}

    def candidates(self, seed: int, index: int, repetition: int) -> Iterator[int]:
        """Yield the clips that clip `index` may hear, in the order of their drawing; one may come twice.

        The first is the one, the others stand in for one that cannot be decoded. None shares the clip's
        picture or film. Raises UserError where there is none.
        """
        row = self._row[int(index)]
        found = False
        for other in self._drawn(self._pool(self._shown[row]), (seed, 0, OFFSCREEN, int(index), repetition)):
            if self._apart(row, other):
                found = True
                yield int(self._indices[other])
        if not found:
            raise UserError(
                f"clip {index}: no other clip's sound is off-screen here; give clips of several classes, or "
                "leave out off-screen"
            )

    @staticmethod
    def _drawn(pool: Array, key: tuple[int, ...]) -> Iterator[int]:
        """Yield rows of `pool` as `key` draws them: a few with equal chances, at last all that there are."""
        if len(pool):
            words = random_words(_TRIES, *key)
            yield from (int(pool[int(word) % len(pool)]) for word in words)
            yield from np.roll(pool, -int(words[0] % np.uint64(len(pool)))).tolist()

    def _marks(self, row: int, labels: Array | None, heard: bool) -> Marks:
        """Return what tells a clip from others: groups of what is heard in it, or of all that is seen too."""
        note = self._notes[row]
        silent = note.sources is not None and not note.heard
        if heard and silent:
            return frozenset()
        if self.by == "any":
            return frozenset(["any"]) if heard else frozenset()
        if self.by == "label" and labels is not None:
            return frozenset([str(labels[row])] if labels[row] >= 0 else [])
        sources = note.heard if heard else (*note.heard, *(one for one in note.sources or () if one.visible))
        return frozenset(groups().get(one.class_name, one.class_name) for one in sources if one.class_name)

    def _pool(self, shown: Marks) -> Array:
        """Return the rows of all clips in which something is heard, and nothing that is shown."""
        if shown not in self._pools:
            rows = [row for row, heard in enumerate(self._heard) if heard and not heard & shown]
            self._pools[shown] = np.array(rows, dtype=np.int64)
        return self._pools[shown]

    def _apart(self, row: int, other: int) -> bool:
        """Say whether two rows are clips of different pictures and films."""
        one, two = self._notes[row], self._notes[other]
        same = (one.image is not None and one.image == two.image) or (
            one.film is not None and one.film == two.film
        )
        return row != other and not same
