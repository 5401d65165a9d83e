"""Eq. (1)-(3) in closed form: time and memory linear in the batch, a message of class sums across ranks.

Mean similarity and Eq. (2) are linear before the logarithm, so with pooled images `v_i` and sounds `a_j`

    sum over j in class(i) of S_ij = <v_i, sum over j in class(i) of a_j>

and no pair of clips is ever looked at. Ranks exchange either the sounds themselves or, where that is smaller,
a sum for every class [C + 1, D + 1]: the last row holds clips alone in their class, the last column counts.

Axes: `n` clips on this rank, `N` of all ranks, `q` queries, `C` classes, `D` channels (heads side by side).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cacl.loss.objective import Partial
from cacl.loss.options import LossOptions
from cacl.loss.pairs import GlobalBatch, merge_over_ranks


def class_sums(
    maps: Tensor, audio: Tensor, scalars: Mapping[str, Tensor], batch: GlobalBatch, options: LossOptions
) -> tuple[Partial, Partial]:
    """Return the sums [n, 6] of this rank's rows and of its columns, over the clips of all ranks.

    `maps` [n, H, P, D] and `audio` [n, H, D] are this rank's. Only for linear similarities and objectives,
    and positives that have classes.
    """
    world, valid, scale = batch.world, batch.clips.valid, options.scale(scalars)
    images = options.similarity.prepare(maps).flatten(1) / maps.shape[1]
    sounds = audio.flatten(1)
    every, classes = options.positives.classes(batch.columns)
    mine = every[batch.first : batch.first + len(images)]
    counted_sounds = _counted(sounds, valid)
    rows = columns = Partial.nothing(images)
    if sums_are_smaller(classes, len(every), options, world.size):
        if options.by_row:
            over_sounds = world.sum_with_gradient(_sums(counted_sounds, mine, classes))
            rows = _query(images, valid, mine, counted_sounds, over_sounds, scale)
        if options.by_column:
            counted_images = _counted(images, valid)
            over_images = world.sum_with_gradient(_sums(counted_images, mine, classes))
            columns = _query(sounds, valid, mine, counted_images, over_images, scale)
        return rows, columns
    gathered = world.gather_rows(counted_sounds, batch.shares)
    if options.by_row:
        rows = _query(images, valid, mine, counted_sounds, _sums(gathered, every, classes), scale)
    if options.by_column:
        counted_images = _counted(images, valid)
        own = F.pad(counted_images, (0, 0, batch.first, len(every) - batch.first - len(images)))
        over_images = _sums(counted_images, mine, classes)
        part = _query(gathered[:, :-1], batch.columns.valid, every, own, over_images, scale)
        columns = merge_over_ranks(part, batch, exponentials=0)
    return rows, columns


def sums_are_smaller(classes: int, clips: int, options: LossOptions, world_size: int) -> bool:
    """Each direction's sum over ranks moves each class twice; one gather for both moves each clip once."""
    return world_size > 1 and 2 * (options.by_row + options.by_column) * (classes + 1) < clips


def _counted(vectors: Tensor, valid: Tensor) -> Tensor:
    """[n, D] → [n, D + 1] with a one behind each vector; zeros for clips that are not valid."""
    return torch.where(valid[:, None], F.pad(vectors, (0, 1), value=1.0), 0)


def _sums(vectors: Tensor, labels: Tensor, classes: int) -> Tensor:
    """[m, D + 1] → [C + 1, D + 1]."""
    where = torch.where(labels < 0, classes, labels)
    return vectors.new_zeros(classes + 1, vectors.shape[1]).index_add(0, where, vectors)


def _query(
    vectors: Tensor, valid: Tensor, labels: Tensor, own: Tensor, sums: Tensor, scale: Tensor | float
) -> Partial:
    """Sum the similarities of queries [q, D] over their classes and over the rest.

    `own` [q, D + 1] stands for the class of a query that is alone in it.
    """
    same = torch.where(labels[:, None] < 0, own, sums.index_select(0, labels.clamp(min=0)))
    total = sums.sum(0)
    near = (vectors * same[:, :-1]).sum(1)
    far = vectors @ total[:-1] - near
    positive = same[:, -1].detach() * valid
    negative = (total[-1] - same[:, -1]).detach() * valid
    weighed_near, weighed_far = (near * valid).detach(), (far * valid).detach()
    stacked = torch.stack((positive, negative, weighed_near, weighed_far, near * scale, far * scale), 1)
    return Partial(stacked, torch.zeros_like(stacked))
