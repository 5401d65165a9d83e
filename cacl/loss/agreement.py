"""Regularizers over the rows of similarity matrices, in blocks and over ranks.

Axes: `n` clips on this rank, `N` of all ranks, `b` rows of a block, `D` channels.
"""

from __future__ import annotations

from torch import Tensor

from cacl.loss.blocks import sums_in_blocks
from cacl.loss.objectives import Partial
from cacl.loss.options import LossOptions
from cacl.loss.pairs import GlobalBatch, block_size, wide
from cacl.loss.regularizers import Regularizer, Views
from cacl.loss.similarities import Columns
from cacl.types import Embeddings


def agreement(
    embeddings: Embeddings, batch: GlobalBatch, regularizer: Regularizer, options: LossOptions
) -> Tensor:
    """Return a regularizer's weighted terms of each clip of this rank [n]."""
    maps, audio, names = wide(embeddings.maps), wide(embeddings.audio), list(embeddings.scalars)
    own, valid = batch.own, batch.columns.valid
    mine = regularizer.views(maps, audio, options.scale(embeddings.scalars))
    views = [mine.audio, mine.foreground, mine.image]
    every = [batch.world.gather_rows(view, batch.shares) for view in views]

    def block(
        where: slice, rows: list[Tensor], shared: list[Tensor], row: Tensor | None, column: Tensor | None
    ) -> tuple[Partial, Partial]:
        scale = options.scale(dict(zip(names, shared[3:], strict=True)))
        columns = Columns(own[where], valid)
        scores = options.similarity.scores(rows[0], shared[0][:, None], columns, scale)
        terms = regularizer.rows(
            scores.pair * scores.scale, Views(*rows[1:]), Views(*shared[:3]), valid, scale
        )
        sums = terms[:, None]
        return Partial(sums, sums.new_zeros(sums.shape)), Partial.nothing(sums)

    row_tensors = [options.similarity.prepare(maps), *views]
    shared = [*every, *embeddings.scalars.values()]
    terms, _ = sums_in_blocks(block, row_tensors, shared, block_size(maps, len(every[0]), options))
    return terms.sums[:, 0].where(batch.clips.valid, 0)
