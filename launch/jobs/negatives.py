"""How a model answers sounds that nothing in view makes, and its own sounds in noise.

| kind | sound |
| --- | --- |
| `silence` | zeros |
| `noise` | normal, of unit variance |
| `off-screen` | another clip's: of another group of classes, else of another pseudo-label, else any other |
| `10dB`, `-5dB` … | the own one, and noise so many decibels below it (no negative: it is still to be found) |

What is drawn for a clip hangs on seed, clip and repetition alone, so that neither ranks nor batches matter. A
frame goes through its network once, whatever the number of sounds.

Axes: `n` clips of a batch, `N` of all, `K` repetitions, `T` samples, `h`, `w` cells of a map.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError, shorten
from cacl.labels.table import LabelTable
from cacl.model.localizer import Localizer, localization_map
from cacl.model.tags.localizer import TagLocalizer
from cacl.resumable import UNIT, Arrays, require_finite, resumable_map
from cacl.types import Batch
from cacl.world import World
from launch.jobs.measuring import AnnotatedClips
from shards.decoders.audio import waveform
from shards.decoders.augmentation import MIDDLE
from shards.decoders.clip import BrokenClip, decoding, member
from shards.offscreen import OffScreen
from shards.order import NOISE
from shards.progress import progress

SYSTEM = "negatives"
"""The name of what is found among an evaluation's systems."""
NEGATIVE = ("silence", "noise", "off-screen")
_DECIBELS = re.compile(r"(-?\d{1,3}(?:\.\d+)?)dB")
_FORMAT_VERSION = 2
"""Of the files in which a killed measurement leaves what it has done."""

OWN = "own"
Measure = Callable[[Mapping[str, Tensor], Batch], Arrays]
"""From own maps [n, h, w] as OWN, those of each kind's sounds [K, n, h, w], and clips to arrays [n, ...]."""


@dataclass(frozen=True)
class Draws:
    """Which sounds are played beside the own one."""

    kinds: tuple[str, ...] = NEGATIVE
    repetitions: int = 10
    """How often each is drawn, K."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError for a kind that there is not, and for senseless numbers."""
        for kind in self.kinds:
            if kind not in NEGATIVE and not _DECIBELS.fullmatch(kind):
                known = ", ".join(NEGATIVE)
                raise UserError(f"negatives: {shorten(kind)} is none of {known}, and no ratio such as 10dB")
        if len({*self.kinds}) < len(self.kinds) or not self.kinds:
            raise UserError("negatives: name at least one kind, and each once")
        if not 1 <= self.repetitions <= 100:
            raise UserError(f"repetitions: {self.repetitions} is not in 1 to 100")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed} is less than 0; give a whole number from 0 on")

    @property
    def negative(self) -> list[str]:
        """The kinds that nothing in view makes."""
        return [kind for kind in self.kinds if kind in NEGATIVE]


class Sounds:
    """The sounds that are drawn for clips."""

    def __init__(self, draws: Draws, clips: AnnotatedClips, table: str | None = None) -> None:
        """Draw for `clips`; `table` is the file of their pseudo-labels, for clips without classes.

        Raises UserError where that labels other clips.
        """
        self.draws, self.clips = draws, clips
        self.labels = table and LabelTable.load(table, fingerprint=clips.store.fingerprint)

    @cached_property
    def off_screen(self) -> OffScreen | None:
        """What knows whose sound is off-screen, from all annotations; None where no such sound is drawn."""
        if "off-screen" not in self.draws.kinds:
            return None
        indices = self.clips.store.indices
        labels = self.labels.lookup(indices) if self.labels else None
        return OffScreen(indices, [self.clips.store.annotation(index) for index in indices.tolist()], labels)

    def plain(self) -> dict[str, Any]:
        """Return what records say: what is drawn, and what tells that a sound is off-screen."""
        record = asdict(self.draws) | {"kinds": list(self.draws.kinds)}
        if self.off_screen is not None:
            record["off_screen_by"] = self.off_screen.by
            if self.off_screen.by == "label" and self.labels:
                record["labels"] = self.labels.fingerprint
        return record

    def play(self, kind: str, repetition: int, batch: Batch) -> Tensor:
        """Return the sounds [n, T] float32 of a kind for the clips of a batch, on the host."""
        own, index = batch.waveforms.cpu(), batch.index.cpu().tolist()
        if kind == "silence":
            return torch.zeros_like(own)
        if kind == "off-screen":
            return torch.stack([self._other(clip, repetition) for clip in index])
        drawn = torch.stack([self.noise(kind, clip, repetition, own.shape[1]) for clip in index])
        if kind == "noise":
            return drawn
        power = own.double().square().mean(1, keepdim=True)
        return own + (drawn * (power / 10 ** (decibels(kind) / 10)).sqrt()).float()

    def noise(self, kind: str, index: int, repetition: int, samples: int) -> Tensor:
        """Return noise [T] float32 of unit variance; each ratio to the own sound has its own."""
        purpose = 0 if kind == "noise" else 1 + round(1000 * (1000 + decibels(kind)))
        key = np.random.SeedSequence((self.draws.seed, 0, NOISE, index, repetition, purpose))
        generator = np.random.Generator(np.random.Philox(key))
        return torch.from_numpy(generator.standard_normal(samples, dtype=np.float32))

    def _other(self, index: int, repetition: int) -> Tensor:
        """Return the sound [T] of the first clip drawn that can be decoded."""
        assert self.off_screen is not None
        for other in self.off_screen.candidates(self.draws.seed, index, repetition):
            seconds = self.clips.store.annotation(other).seconds
            try:
                with decoding():
                    stored = member(self.clips.store.read(other), "wav")
                    return torch.from_numpy(waveform(stored, self.clips.augmentation, MIDDLE, seconds))
            except BrokenClip:
                continue
        raise UserError(f"{self.clips.store.where(index)}: no other clip's sound can be decoded; pack again")


def decibels(kind: str) -> float:
    """Return the ratio of the own sound to the noise that a kind such as `10dB` names."""
    found = _DECIBELS.fullmatch(kind)
    assert found is not None
    return float(found[1])


@dataclass(frozen=True)
class Listening:
    """A model and the sounds that it is to hear over the frames of clips."""

    model: Localizer | TagLocalizer
    sounds: Sounds

    @torch.inference_mode()
    def maps(self, batch: Batch, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Yield the own maps [n, h, w] as OWN, then for each kind those under its sounds [K, n, h, w]."""
        images, waveforms = batch.images.to(device), batch.waveforms.to(device)
        seen = self.model(*self.model.prepare(images, waveforms))

        def located(audio: Tensor) -> Tensor:
            return localization_map(seen.image, audio).float()

        yield OWN, located(seen.audio)
        times = self.sounds.draws.repetitions
        for kind in self.sounds.draws.kinds:
            if kind == "silence":  # the same for all clips, however often
                heard = self.model.hear(torch.zeros_like(waveforms[:1])).expand(len(images), -1, -1)
                yield kind, located(heard)[None].expand(times, -1, -1, -1)
                continue
            drawn = (self.sounds.play(kind, repetition, batch) for repetition in range(times))
            yield kind, torch.stack([located(self.model.hear(one.to(device))) for one in drawn])


def listen(
    listening: Listening,
    measure: Measure,
    parts: Path,
    identity: Mapping[str, Any],
    world: World,
) -> Arrays | None:
    """Return what `measure` makes of every clip's maps, [N, ...] by name, on rank 0 (None on others).

    Every rank calls this; the folder `parts` keeps what is done, so that a killed measurement continues.
    Raises UserError for maps that are not finite, and where a sound cannot be had.
    """
    sounds = listening.sounds
    clips = sounds.clips

    def work(batch: Batch) -> Arrays:
        maps = dict(listening.maps(batch, world.device))
        for kind, heard in maps.items():
            by_clip = heard if kind == OWN else heard.transpose(0, 1)
            require_finite({kind: by_clip.cpu().numpy()}, batch, "the model")
        return measure(maps, batch)

    indices = clips.store.indices
    mine = sum(len(indices[k : k + UNIT]) for k in range(world.rank * UNIT, len(indices), world.size * UNIT))
    with progress(total=mine, unit="clip", desc="negatives", disable=not world.is_main) as bar:
        return resumable_map(
            indices,
            lambda some: clips.batches(some, UNIT),
            work,
            parts,
            {
                "format_version": _FORMAT_VERSION,
                "data": clips.store.fingerprint,
                **identity,
                **sounds.plain(),
            },
            world,
            bar.update,
        )


def column(kind: str) -> str:
    """Return a kind as names of numbers have it."""
    return kind.replace("-", "") if kind in NEGATIVE else kind
