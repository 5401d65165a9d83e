"""The localizer without training, `tags`, on packed clips: alone, and next to a trained model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cacl.errors import UserError
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import Protocol
from cacl.evaluation.refinement import once_a_batch
from cacl.evaluation.systems import maps_of, system_of
from cacl.model.tags.localizer import TagLocalizer, load_tags
from cacl.runs.tags import HEARD, NAME
from launch.jobs.clips import whole_view
from launch.jobs.measuring import AnnotatedClips, Measurement
from shards.decoders.augmentation import Augmentation
from shards.decoders.torch import TorchDecoder
from shards.store import open_store


def open_clips(data: str, workers: int) -> AnnotatedClips:
    """Return clips as `tags` is given them: whole frames, and the middle of their sounds as stored."""
    store = open_store(data)
    rate = whole_view(store).sample_rate
    view = Augmentation(size=HEARD.size, short_side=HEARD.size, duration=HEARD.duration, sample_rate=rate)
    return AnnotatedClips(store, TorchDecoder(), workers, view)


def open_for(clips: AnnotatedClips) -> TagLocalizer:
    """Return the localizer for sounds at the rate of `clips`.

    Raises UserError where that is less than its tagger hears, or where a file of its networks is missing.
    """
    model = load_tags()
    model.hear_at(clips.augmentation.sample_rate, clips.store.files.location)
    return model


@dataclass(frozen=True)
class Beside:
    """`tags` next to a trained model, on the same clips stored at a rate that its tagger hears."""

    clips: AnnotatedClips
    model: TagLocalizer

    @classmethod
    def open(cls, data: str, workers: int) -> Beside:
        """Open clips and model. Raises UserError where one cannot be had."""
        clips = open_clips(data, workers)
        return cls(clips, open_for(clips))

    def measure(
        self, work: Measurement, protocol: Protocol, measured: ClipResults | None
    ) -> dict[str, ClipResults]:
        """Return what `tags` gets on the clips that are `measured`, on rank 0; nothing elsewhere.

        Raises UserError where one of them is not among its own.
        """
        model = self.model.to(work.world.device)
        listening = replace(work, clips=self.clips, identity={NAME: model.identity()})
        systems = {NAME: system_of(once_a_batch(maps_of(model)))}
        found = listening.measure(systems, protocol, self.clips.store.indices)
        if measured is None:
            return {}
        return {NAME: same_clips(found[NAME], measured, self.clips.store.files.location)}


def same_clips(found: ClipResults, measured: ClipResults, location: str) -> ClipResults:
    """Return the rows of `found` for the clips that are `measured`, by their ids and in their order.

    Raises UserError for a clip that `found` at `location` lacks, or of which it knows another truth.
    """
    rows = {name: row for row, name in enumerate(found.id.tolist())}
    lacking = [name for name in measured.id.tolist() if name not in rows]
    again = "pack there what is measured, at 32 kHz and with the same boxes"
    if lacking:
        raise UserError(
            f"--tags {location}: lacks {len(lacking)} of the {len(measured)} clips that are measured, such "
            f"as {lacking[0]}; {again}"
        )
    taken = found.take(np.array([rows[name] for name in measured.id.tolist()]))
    differ = (taken.class_name != measured.class_name) | (taken.boxes != measured.boxes)
    if differ.any():
        raise UserError(
            f"--tags {location}: clip {measured.id[differ][0]} has another class or other boxes than where "
            f"it is measured; {again}"
        )
    return replace(taken, index=measured.index)
