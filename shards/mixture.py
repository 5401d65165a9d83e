"""Several packed data sets as one, a part of one, and frames of one with sounds of another.

Both read like a store: loaders, labels and orders speak of their indices and know nothing of the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cacl.annotation import OWN_SOUND
from cacl.errors import UserError
from shards.manifest import digest
from shards.order import Shards, random_words

Indices = npt.NDArray[np.int64]
_PAIRS = 100
"""What is drawn: the part of a generator's key that keeps one purpose apart from another."""
_FRAME = "jpg"


class Clips(Protocol):
    """Packed clips by index: a store, a part of one, a mixture, or pairs of two stores."""

    @property
    def fingerprint(self) -> str:
        """Sha256 that names the content."""

    @property
    def shards(self) -> Shards:
        """The clips of each shard: ascending int64 indices."""

    @property
    def indices(self) -> Indices:
        """Every clip, [N] int64, ascending."""

    @property
    def capacity(self) -> int:
        """The first index after the last shard's room."""

    def read(self, index: int) -> dict[str, bytes]:
        """Return the members of a clip by extension."""

    def prefetch(self, indices: Indices) -> None:
        """Begin to fetch the shards of clips [n] int64 that will be read soon."""

    def where(self, index: int) -> str:
        """Return where a clip lies, as a message names it."""


class Mixture:
    """Data sets one behind the other: indices of each are offset by its predecessors' capacity."""

    def __init__(self, parts: Sequence[Clips]) -> None:
        self.parts = list(parts)
        ends = np.cumsum([part.capacity for part in parts], dtype=np.int64)
        self.offsets = np.append(0, ends[:-1])
        self.capacity = int(ends[-1])

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 that names the list of data sets."""
        return digest(["mixture", [part.fingerprint for part in self.parts]])

    @cached_property
    def shards_of_parts(self) -> list[Shards]:
        """For every part its shards, as indices of the mixture."""
        pairs = zip(self.parts, self.offsets, strict=True)
        return [[shard + offset for shard in part.shards] for part, offset in pairs]

    @cached_property
    def shards(self) -> Shards:
        """The clips of each shard, part by part."""
        return [shard for shards in self.shards_of_parts for shard in shards]

    @cached_property
    def indices(self) -> Indices:
        """Every clip, [N] int64, ascending."""
        return np.concatenate([*self.shards, np.empty(0, np.int64)])

    def read(self, index: int) -> dict[str, bytes]:
        """Return the members of a clip. Raises as a store's `read` does."""
        part, own = self._own(index)
        return part.read(own)

    def prefetch(self, indices: Indices) -> None:
        """Begin to fetch the shards of clips [n] int64 that will be read soon."""
        number = np.searchsorted(self.offsets, indices, side="right") - 1
        for each in np.unique(number).tolist():
            self.parts[each].prefetch(indices[number == each] - self.offsets[each])

    def where(self, index: int) -> str:
        """Return where a clip lies, as a message names it."""
        part, own = self._own(index)
        return part.where(own)

    def _own(self, index: int) -> tuple[Clips, int]:
        number = int(np.searchsorted(self.offsets, index, side="right")) - 1
        if not 0 <= index < self.capacity:
            raise UserError(f"clip {index} is not in any of the {len(self.parts)} data sets")
        return self.parts[number], int(index - self.offsets[number])


class Subset:
    """Some of a data set's clips, under their own indices."""

    def __init__(self, clips: Clips, shards: Shards) -> None:
        """Take `shards`, what is left of each of the data set's."""
        self.clips, self.shards = clips, shards

    @cached_property
    def indices(self) -> Indices:
        """Every clip that is left, [N] int64, ascending."""
        return np.concatenate([*self.shards, np.empty(0, np.int64)])

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 that names the data set and what is left of it."""
        return digest(["subset", self.clips.fingerprint, digest(self.indices.tolist())])

    @property
    def capacity(self) -> int:
        """The first index after the data set's room."""
        return self.clips.capacity

    def read(self, index: int) -> dict[str, bytes]:
        """Return the members of a clip. Raises as a store's `read` does."""
        return self.clips.read(index)

    def prefetch(self, indices: Indices) -> None:
        """Begin to fetch the shards of clips [n] int64 that will be read soon."""
        self.clips.prefetch(indices)

    def where(self, index: int) -> str:
        """Return where a clip lies, as a message names it."""
        return self.clips.where(index)


class Pairs:
    """The frames of one data set, each with a sound of another that has the same label.

    Indices are those of the frames. A frame whose label no sound has is left out.
    """

    def __init__(
        self, frames: Clips, sounds: Clips, partner: Indices, name: str, labels: Sequence[str]
    ) -> None:
        """Take `partner` [N], a sound for each of the frames' indices or -1, and what labeled both."""
        self.frames, self.sounds, self.name = frames, sounds, name
        self.labels = list(labels)
        known = partner >= 0
        self.indices, self.partner = frames.indices[known], partner[known]

    @property
    def fingerprint(self) -> str:
        """Sha256 that names both data sets and every pair."""
        pairs = digest([self.indices.tolist(), self.partner.tolist()])
        return digest(["pairs", self.frames.fingerprint, self.sounds.fingerprint, self.labels, pairs])

    @property
    def capacity(self) -> int:
        """The first index after the frames' room."""
        return self.frames.capacity

    @cached_property
    def shards(self) -> Shards:
        """The clips of each of the frames' shards."""
        return [shard[np.isin(shard, self.indices, assume_unique=True)] for shard in self.frames.shards]

    def read(self, index: int) -> dict[str, bytes]:
        """Return frame and sound. Raises as a store's `read` does."""
        sound = self.sounds.read(self._partner(index))
        frame = self.frames.read(index)
        return {
            name: members[name] for name, members in ((_FRAME, frame), (OWN_SOUND, sound)) if name in members
        }

    def prefetch(self, indices: Indices) -> None:
        """Begin to fetch the shards of clips [n] int64 that will be read soon."""
        self.frames.prefetch(indices)
        self.sounds.prefetch(self.partner[np.searchsorted(self.indices, indices)])

    def where(self, index: int) -> str:
        """Return where frame and sound lie, as a message names them."""
        return f"{self.frames.where(index)} with the sound of {self.sounds.where(self._partner(index))}"

    def _partner(self, index: int) -> int:
        place = int(np.searchsorted(self.indices, index))
        if place == len(self.indices) or self.indices[place] != index:
            raise UserError(f"{self.frames.where(index)}: no sound has the label of this frame")
        return int(self.partner[place])


def draw_partners(
    frames: Indices, frame_labels: Indices, sounds: Indices, sound_labels: Indices, seed: int
) -> Indices:
    """Return for every frame [N] a sound of its label, [N] int64; -1 where its label is -1 or no sound's.

    Drawn by the seed and the frame's index, whatever other frames there are.
    """
    order = np.argsort(sound_labels, kind="stable")
    labels, firsts, counts = np.unique(sound_labels[order], return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(labels, frame_labels), max(len(labels) - 1, 0))
    partner = np.full(len(frames), -1, np.int64)
    if not len(frames) or not len(labels):
        return partner
    known = (frame_labels >= 0) & (labels[place] == frame_labels)
    words = random_words(int(frames.max()) + 1, seed, _PAIRS)[frames[known]]
    drawn = firsts[place[known]] + (words % counts[place[known]].astype(np.uint64)).astype(np.int64)
    partner[known] = sounds[order[drawn]]
    return partner
