"""What the field's published test sets have in common: every clip is measured, and some share a picture."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cacl.annotation import Box, SoundSource
from cacl.errors import UserError, brief, shorten
from cacl.files import regular
from shards.clip import Array, Clip, Rejection
from shards.sources import media
from shards.sources.boxes import checked_boxes
from shards.sources.files import FileSource
from shards.sources.lists import Pick
from shards.sources.video import Moment

_TABLE_LIMIT = 2**28
"""Bytes of a file of JSON; the largest known has two millions."""


@dataclass(frozen=True)
class PublishedSet(FileSource):
    """A picture and a recording for each clip, and where its sound comes from."""

    @abstractmethod
    def picture(self, name: str) -> str:
        """Return the file of a clip's frame, below the root."""

    @abstractmethod
    def recording(self, name: str) -> str:
        """Return the file of a clip's sound, below the root."""

    @abstractmethod
    def truth(self, name: str) -> tuple[SoundSource, ...]:
        """Return what is heard or seen in the clip `name`. Raises media.BrokenMedia."""

    def image(self, name: str) -> str | None:
        """Return what all clips of one picture share, None where each has its own."""
        return None

    def film_of(self, name: str) -> str | None:
        """Return what all clips of one film share, None where they are of none."""
        return None

    def time(self, name: str) -> float | None:
        """Return when a clip's frame is shown, seconds into its recording; None where nobody knows."""
        return None

    def tags(self, name: str) -> tuple[str, ...]:
        """Return what else is said of a clip."""
        return ()

    def group(self, id: str) -> str:
        """Return the film or picture that the clip shares with others."""
        name = self.pick(id).video
        return self.film_of(name) or self.image(name) or name

    def measured(self, pick: Pick) -> bool:
        """Models are measured on every clip."""
        return True

    def is_there(self, name: str) -> bool:
        """Return whether a clip has a file."""
        try:
            files = (self.picture(name), self.recording(name))
        except media.BrokenMedia:
            return False
        return any(os.path.exists(media.in_any_form(self.root, file)) for file in files)

    def drawn(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return what `--boxes` says of a clip, else the set itself; None for a pair out of view."""
        found = super().drawn(pick)
        return self.truth(pick.video) if found is None and pick.sounding else found

    def moment(self, pick: Pick) -> Moment:
        """Read the picture, and the sound around its moment."""
        files = self.picture(pick.video), self.recording(pick.audio)
        return self.pair_moment(pick, *files, self.middle(pick.audio))._replace(
            frame_seconds=self.time(pick.video)
        )

    def middle(self, name: str) -> float | None:
        """Return the moment around which a sound is stored, in seconds; None: it is from its beginning on."""
        return self.time(name)

    def read(self, id: str) -> Clip | Rejection:
        """Decode one clip, and say what it shares with others."""
        clip = super().read(id)
        if isinstance(clip, Rejection):
            return clip
        name = self.pick(id).video
        try:
            return replace(clip, image=self.image(name), film=self.film_of(name), tags=self.tags(name))
        except media.BrokenMedia as error:
            return Rejection(id, str(error), error.file)


def located(class_name: str, box: Box) -> SoundSource:
    """Return a source by its box; out of view where that has no area. Raises media.BrokenMedia."""
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        return _out_of_view(class_name)
    return SoundSource(class_name, checked_boxes([box]))


def _out_of_view(class_name: str) -> SoundSource:
    return SoundSource(class_name, boxes=(), visible=False)


def masked(class_name: str, mask: Array) -> SoundSource:
    """Return a source by its mask, [h, w] bool, and the box around it; out of view where that is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return _out_of_view(class_name)
    height, width = mask.shape
    x0, x1 = columns[0] / width, (columns[-1] + 1) / width
    y0, y1 = rows[0] / height, (rows[-1] + 1) / height
    return SoundSource(class_name, ((float(x0), float(y0), float(x1), float(y1)),), mask)


def read_json(path: Path, fix: str) -> Any:
    """Return what a file of JSON says. Raises UserError where there is none; `fix` says what to give."""
    try:
        return json.loads(regular(path, fix, _TABLE_LIMIT).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: there is no such file; {fix}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({shorten(error)}); {fix}") from None


def four_numbers(entry: dict[str, Any], field: str, where: str, fix: str) -> tuple[float, ...]:
    """Return the four finite numbers of a field. Raises UserError that begins with `where`."""
    value = entry.get(field)
    if not (isinstance(value, list) and len(value) == 4 and all(map(is_number, value))):
        raise UserError(f"{where}: {field}: expected four numbers, got {brief(value)}; {fix}")
    return tuple(map(float, value))


def is_number(value: Any) -> bool:
    """Say whether a value of a JSON is a finite number, and no absurd one."""
    return type(value) in (int, float) and abs(value) < 1e9
