"""Eq. (1)-(3) in closed form: time and memory linear in the batch.

Mean similarity and Eq. (2) are linear before the logarithm, so with pooled images `v_i` and sounds `a_j`

    sum over j in class(i) of S_ij = <v_i, sum over j in class(i) of a_j>

and no pair of clips is ever looked at. Ranks exchange either the sounds themselves or, where that is smaller,
a sum for every class [C + 1, D]: the last row holds clips alone in their class. Who is in which class, every
rank knows.

Axes: `n` clips on this rank, `N` of all ranks, `q` queries, `C` classes, `D` channels (heads side by side).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cacl.loss.batch import GlobalBatch
from cacl.loss.options import LossOptions
from cacl.loss.pairs import merge_over_ranks
from cacl.loss.sums import Partial


@dataclass(frozen=True)
class Pool:
    """Images or sounds: of clips, or summed over those of a class."""

    vectors: Tensor
    """[m, D]."""
    counts: Tensor
    """[m, 1], how many valid clips a vector stands for: a clip's own is 1 or 0."""

    def by_class(self, labels: Tensor, classes: int) -> Pool:
        """Sum the valid clips of each class, [C + 1, ...]."""
        vectors = self.vectors * self.counts
        return Pool(_by_class(vectors, labels, classes), _by_class(self.counts, labels, classes))


def class_sums(
    maps: Tensor, audio: Tensor, scalars: Mapping[str, Tensor], batch: GlobalBatch, options: LossOptions
) -> tuple[Partial, Partial]:
    """Return the sums [n, 6] of this rank's rows and of its columns.

    They are over the clips of all ranks. `maps` [n, H, P, D] and `audio` [n, H, D] are this rank's. Only
    for linear similarities and objectives, and positives that have classes.
    """
    world, scale = batch.world, options.scale(scalars)
    valid, every_valid = (clips.valid[:, None].to(maps.dtype) for clips in (batch.clips, batch.columns))
    images = Pool(options.similarity.prepare(maps).flatten(1), valid)
    own_audio = Pool(audio.flatten(1), valid)
    every, classes = options.positives.classes(batch.columns)
    mine = every[batch.first : batch.first + len(valid)]
    rows = columns = Partial.nothing(maps)
    if sums_are_smaller(classes, len(every), options, world.size):
        counts = _by_class(every_valid, every, classes)
        if options.by_row:
            over_audio = world.sum_with_gradient(own_audio.by_class(mine, classes).vectors)
            rows = _query(images, mine, own_audio, Pool(over_audio, counts), scale)
        if options.by_column:
            over_images = world.sum_with_gradient(images.by_class(mine, classes).vectors)
            columns = _query(own_audio, mine, images, Pool(over_images, counts), scale)
        return rows, columns
    gathered = Pool(world.gather_rows(own_audio.vectors, batch.shares), every_valid)
    if options.by_row:
        rows = _query(images, mine, own_audio, gathered.by_class(every, classes), scale)
    if options.by_column:
        around = (0, 0, batch.first, len(every) - batch.first - len(valid))
        own = Pool(F.pad(images.vectors, around), F.pad(valid, around))
        part = _query(gathered, every, own, images.by_class(mine, classes), scale)
        columns = merge_over_ranks(part, batch, exponentials=0)
    return rows, columns


def sums_are_smaller(classes: int, clips: int, options: LossOptions, world_size: int) -> bool:
    """Say whether class sums move fewer bytes over ranks than the sounds themselves.

    Each direction's sum moves each class twice; one gather for both moves each clip once.
    """
    return world_size > 1 and 2 * (options.by_row + options.by_column) * (classes + 1) < clips


def _by_class(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """[m, D] → [C + 1, D]; rows with label -1 come last."""
    where = torch.where(labels < 0, classes, labels)
    return x.new_zeros(classes + 1, x.shape[1]).index_add(0, where, x)


def _query(queries: Pool, labels: Tensor, own: Pool, sums: Pool, scale: Tensor | float) -> Partial:
    """Sum the similarities of queries [q, D] over their classes and over the rest.

    `own` [q, D] stands for the class of a query that is alone in it.
    """
    near, far = _near_and_far(queries.vectors, labels, own.vectors, sums.vectors)
    positive, negative = _near_and_far(queries.counts, labels, own.counts, sums.counts)
    weigh = queries.counts.squeeze(1)
    weighed_near, weighed_far = near.detach() * weigh, far.detach() * weigh
    stacked = torch.stack((positive, negative, weighed_near, weighed_far, near * scale, far * scale), 1)
    return Partial(stacked, torch.zeros_like(stacked))


def _near_and_far(queries: Tensor, labels: Tensor, own: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply each query [q, D] by the sum of its class and of all others, [q] each."""
    alone = (labels < 0)[:, None].to(own.dtype)
    # lerp by 0 or 1 is exact; a `where` whose mask spreads over columns takes four times as long on a CPU
    same = torch.lerp(sums.index_select(0, labels.clamp(min=0)), own, alone)
    near = (queries * same).sum(1)
    return near, queries @ sums.sum(0) - near
