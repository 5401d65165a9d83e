"""θ, fitted by each validation of a training to what it embeds anyway, and to a little noise.

A clip's frame and own sound are embedded for its retrieval. Silence is one sound for all clips, and one of
something off-screen is another clip's own, which some rank has embedded: only noise goes through the sound
network beside them. What is drawn is what `cacl calibrate` draws, and so is θ but for rounding.

Axes: `m` clips of a batch on this rank, `n` of all its batches, `N` on all ranks, `K` repetitions, `H` heads,
`P` places of a map, `D` channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation.negatives import fit_theta
from cacl.evaluation.upsampling import Upsampling, upsample
from cacl.model.localizer import localization_map
from cacl.runs.calibration import PLAIN, Calibration
from cacl.training.validation import valid_rows
from cacl.types import Batch, Embeddings
from cacl.world import World
from launch.jobs.negatives import Sounds

_SIZE = 224
"""Pixels of the side on which maps are measured and drawn."""
_BEST = 95
"""Percentile of the own sounds' highest pixels: as sure as the model is of sounds that it knows."""


def peaks(maps: Tensor, upsampling: Upsampling) -> Tensor:
    """Return the highest pixels [n] of maps [n, h, w]."""
    return upsample(maps, _SIZE, upsampling).amax((1, 2))


def fit(highest: Mapping[str, np.ndarray], own: np.ndarray) -> dict[str, Any]:
    """Return `thetas` and `best` of a calibration, from highest pixels: negatives' [N, K], own ones [N]."""
    return {"thetas": fit_theta(highest), "best": float(np.percentile(own.astype(np.float64), _BEST))}


@dataclass(frozen=True)
class Embedded:
    """What is kept of a batch's valid clips."""

    index: Tensor
    """[m]."""
    image: Tensor
    """[m, H, P, D]."""
    audio: Tensor
    """[m, H, D] of the own sounds."""
    noise: list[Tensor]
    """[m, H, D], K of them."""

    def peaks(self, audio: Tensor) -> Tensor:
        """Return the highest pixels [m] under sounds [m, H, D]."""
        return peaks(localization_map(self.image, audio).float(), PLAIN)


class Fitting:
    """Fits θ to the clips of one validation, all ranks together."""

    def __init__(
        self,
        sounds: Sounds,
        embed: Callable[[Batch], Embeddings],
        hear: Callable[[Tensor], Tensor],
        world: World,
    ) -> None:
        """Take the functions that embed a batch, and sounds [m, T] to [m, H, D]."""
        self.sounds, self.world = sounds, world
        self._embed, self._hear = embed, hear
        self._kept: list[Embedded] = []
        self._silence: Tensor | None = None
        self._last: Batch | None = None

    def embed(self, batch: Batch) -> Embeddings:
        """Return a batch's embeddings, and hear noise with it; one that comes again is kept once.

        Silence is heard with the first batch. All ranks call this equally often (ZeRO 3).
        """
        embeddings = self._embed(batch)
        if self._silence is None:  # twice: a compiled network is compiled anew for a batch of one
            self._silence = self._hear(torch.zeros_like(batch.waveforms[:2]))[:1]
        times = range(self.sounds.draws.repetitions)
        noise = [valid_rows(self._hear(self.sounds.play("noise", k, batch)), batch) for k in times]
        if batch is not self._last:
            index = valid_rows(batch.index.to(self.world.device), batch)
            image, audio = valid_rows(embeddings.image, batch), valid_rows(embeddings.audio, batch)
            self._kept.append(Embedded(index, image, audio, noise))
        self._last = batch
        return embeddings

    @torch.no_grad()
    def fit(self, checkpoint: str, weights: str) -> Calibration | None:
        """Return what is fitted, the same on every rank; None for a model that has diverged.

        Where no other clip's sound is off-screen, that kind is left out. Raises UserError as `Sounds` does.
        """
        assert self._silence is not None
        index, audio = self._gather([one.index for one in self._kept]), self._gather(self._audio())
        partners = self._partners(index)
        times, sounds = self.sounds.draws.repetitions, self.sounds
        found: dict[str, list[Tensor]] = {"own": [], "silence": [], "noise": [], "off-screen": []}
        first = 0
        for one in self._kept:
            rows = slice(first, first := first + len(one.index))
            found["own"].append(one.peaks(one.audio))
            found["silence"].append(one.peaks(self._silence.expand_as(one.audio))[:, None].expand(-1, times))
            found["noise"].append(torch.stack([one.peaks(heard) for heard in one.noise], 1))
            if partners is not None:
                others = [one.peaks(audio[partners[rows, k]]) for k in range(times)]
                found["off-screen"].append(torch.stack(others, 1))
        if partners is None:
            kinds = tuple(kind for kind in sounds.draws.kinds if kind != "off-screen")
            sounds = Sounds(replace(sounds.draws, kinds=kinds), sounds.clips)
        highest = {kind: self._gather(found[kind]).cpu().numpy() for kind in ("own", *sounds.draws.kinds)}
        own = highest.pop("own")
        if not all(np.isfinite(values).all() for values in (own, *highest.values())):
            return None
        return Calibration(
            **fit(highest, own),
            checkpoint=checkpoint,
            weights=weights,
            upsampling=PLAIN,
            data=sounds.clips.store.fingerprint,
            clips=len(own),
            negatives=sounds.plain(),
        )

    def _audio(self) -> list[Tensor]:
        return [one.audio for one in self._kept]

    def _partners(self, index: Tensor) -> Tensor | None:
        """Return which row of `index` [N] each clip of this rank hears, [n, K]; None if one has none."""
        assert self.sounds.off_screen is not None
        row = {clip: k for k, clip in enumerate(index.tolist())}
        draw = partial(self.sounds.off_screen.candidates, self.sounds.draws.seed)
        times = range(self.sounds.draws.repetitions)
        mine = [clip for one in self._kept for clip in one.index.tolist()]
        try:
            rows = [
                [next(row[other] for other in draw(clip, k) if other in row) for k in times] for clip in mine
            ]
            missing = False
        except (UserError, StopIteration):
            rows, missing = [], True
        if self.world.max(torch.tensor([float(missing)], device=self.world.device)).item():
            return None
        return torch.tensor(rows, dtype=torch.int64, device=self.world.device).view(len(mine), len(times))

    def _gather(self, parts: list[Tensor]) -> Tensor:
        """Return the rows of all ranks' parts, [N, ...]."""
        mine = torch.cat(parts)
        return self.world.gather_rows(mine, self.world.shares(len(mine)))
