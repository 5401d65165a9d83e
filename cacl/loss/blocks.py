"""Sums over a large matrix of pairs, in blocks of rows.

Memory is linear in the batch. With several blocks the forward keeps the sums and, while there is room, what
makes a block cheap to compute again; the backward computes each block again. With one block there is nothing
to save and plain autograd is used.

Axes: `b` rows of a block, `n` rows on this rank, `N` columns, `k` sums of an objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacl.loss.sums import Partial, merge


class Known(NamedTuple):
    """What is known of a block that is computed again; nothing the first time."""

    row_shift: Tensor | None = None
    """[b, k]"""
    column_shift: Tensor | None = None
    """[N, k]"""
    kept: tuple[Tensor, ...] = ()
    """`BlockSums.kept` of the first time, if there was room."""


class BlockSums(NamedTuple):
    """What a block computes."""

    rows: Partial
    """[b, k]"""
    columns: Partial
    """[N, k], what the block's rows add to every column."""
    kept: tuple[Tensor, ...] = ()
    """Without gradient: what makes the block cheap to compute again."""


class Block(Protocol):
    """Computes the sums of the rows `where` and what they add to all columns."""

    def __call__(
        self, where: slice, rows: Sequence[Tensor], shared: Sequence[Tensor], known: Known
    ) -> BlockSums:
        """Return the block's sums.

        `rows` are the block's slices of the row tensors, `shared` the whole tensors that every block uses.
        """


def sums_in_blocks(
    block: Block, rows: Sequence[Tensor], shared: Sequence[Tensor], rows_per_block: int, room: float = 0
) -> tuple[Partial, Partial]:
    """Sum all rows [n, k] and all columns [N, k], with exact gradients.

    `rows` are tensors [n, ...] that are cut into blocks, `shared` are used whole by every block. What blocks
    give to keep is kept until `room` bytes are full.
    """
    n = len(rows[0])
    if rows_per_block >= n:
        whole = block(slice(0, n), list(rows), list(shared), Known())
        return whole.rows, whole.columns
    outputs = _Blocks.apply(block, rows_per_block, room, len(rows), *rows, *shared)
    return Partial(outputs[0], outputs[1]), Partial(outputs[2], outputs[3])


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, block: Block, rows_per_block: int, room: float, row_tensors: int, *tensors: Tensor
    ) -> Any:
        rows, shared = list(tensors[:row_tensors]), list(tensors[row_tensors:])
        by_row, column, kept = [], None, []
        for where in _slices(len(rows[0]), rows_per_block):
            found = block(where, [tensor[where] for tensor in rows], shared, Known())
            by_row.append(found.rows)
            column = found.columns if column is None else merge(column, found.columns)
            room -= sum(tensor.nbytes for tensor in found.kept)
            kept.append(found.kept if room >= 0 else ())
        assert column is not None
        row_shift = torch.cat([part.shift for part in by_row])
        ctx.block, ctx.rows_per_block, ctx.row_tensors = block, rows_per_block, row_tensors
        ctx.kept = [len(tensors) for tensors in kept]
        ctx.save_for_backward(*tensors, row_shift, column.shift, *(each for block in kept for each in block))
        ctx.mark_non_differentiable(row_shift, column.shift)
        return torch.cat([part.sums for part in by_row]), row_shift, column.sums, column.shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        needed = ctx.needs_input_grad[4:]
        saved = iter(ctx.saved_tensors)
        *tensors, row_shift, column_shift = islice(saved, len(needed) + 2)
        row_gradient, column_gradient = gradients[0], gradients[2]
        kinds = [torch.empty_like] * ctx.row_tensors + [torch.zeros_like] * (len(tensors) - ctx.row_tensors)
        totals = [new(x) if w else None for new, x, w in zip(kinds, tensors, needed, strict=True)]
        for where, kept in zip(_slices(len(tensors[0]), ctx.rows_per_block), ctx.kept, strict=True):
            cut = [x[where] if i < ctx.row_tensors else x for i, x in enumerate(tensors)]
            leaves = [x.detach().requires_grad_(w) for x, w in zip(cut, needed, strict=True)]
            in_rows, in_all = leaves[: ctx.row_tensors], leaves[ctx.row_tensors :]
            with torch.enable_grad():
                known = Known(row_shift[where], column_shift, tuple(islice(saved, kept)))
                parts = ctx.block(where, in_rows, in_all, known)[:2]
            weights = (row_gradient[where], column_gradient)
            asked = [
                (part.sums, weight)
                for part, weight in zip(parts, weights, strict=True)
                if part.sums.requires_grad
            ]
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(_gradients(asked, wanted))
            for number, total in enumerate(totals):
                if total is None:
                    continue
                gradient = next(found)
                if number < ctx.row_tensors:
                    total[where] = 0 if gradient is None else gradient
                elif gradient is not None:
                    total += gradient
        return None, None, None, None, *totals


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _gradients(asked: list[tuple[Tensor, Tensor]], wanted: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of weighted outputs with regard to the tensors `wanted`."""
    outputs, weights = zip(*asked, strict=True)
    return torch.autograd.grad(outputs, wanted, weights, allow_unused=True)
