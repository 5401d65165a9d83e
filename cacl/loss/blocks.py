"""Sums over a large matrix of pairs, in blocks of rows.

Memory is linear in the batch. With several blocks the forward keeps only the sums; the backward computes each
block again. With one block there is nothing to save and plain autograd is used.

Axes: `b` rows of a block, `n` rows on this rank, `N` columns, `k` sums of an objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacl.loss.sums import Partial, merge


class Shifts(NamedTuple):
    """Shifts of a block that is computed again; None if the block finds its own."""

    rows: Tensor | None = None
    """[b, k]"""
    columns: Tensor | None = None
    """[N, k]"""


class Block(Protocol):
    """Computes the sums of the rows `where` and what they add to all columns."""

    def __call__(
        self, where: slice, rows: Sequence[Tensor], shared: Sequence[Tensor], shifts: Shifts
    ) -> tuple[Partial, Partial]:
        """Return sums of its rows [b, k] and of all columns [N, k].

        `rows` are the block's slices of the row tensors, `shared` the whole tensors that every block uses.
        """


def sums_in_blocks(
    block: Block, rows: Sequence[Tensor], shared: Sequence[Tensor], rows_per_block: int
) -> tuple[Partial, Partial]:
    """Sum all rows [n, k] and all columns [N, k], with exact gradients.

    `rows` are tensors [n, ...] that are cut into blocks, `shared` are used whole by every block.
    """
    n = len(rows[0])
    if rows_per_block >= n:
        return block(slice(0, n), list(rows), list(shared), Shifts())
    outputs = _Blocks.apply(block, rows_per_block, len(rows), *rows, *shared)
    return Partial(outputs[0], outputs[1]), Partial(outputs[2], outputs[3])


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Block, rows_per_block: int, row_tensors: int, *tensors: Tensor) -> Any:
        rows, shared = list(tensors[:row_tensors]), list(tensors[row_tensors:])
        by_row, column = [], None
        for where in _slices(len(rows[0]), rows_per_block):
            row_part, column_part = block(where, [tensor[where] for tensor in rows], shared, Shifts())
            by_row.append(row_part)
            column = column_part if column is None else merge(column, column_part)
        assert column is not None
        row_shift = torch.cat([part.shift for part in by_row])
        ctx.block, ctx.rows_per_block, ctx.row_tensors = block, rows_per_block, row_tensors
        ctx.save_for_backward(*tensors, row_shift, column.shift)
        ctx.mark_non_differentiable(row_shift, column.shift)
        return torch.cat([part.sums for part in by_row]), row_shift, column.sums, column.shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        *tensors, row_shift, column_shift = ctx.saved_tensors
        row_gradient, column_gradient = gradients[0], gradients[2]
        needed = ctx.needs_input_grad[3:]
        totals = [torch.zeros_like(x) if wanted else None for x, wanted in zip(tensors, needed, strict=True)]
        for where in _slices(len(tensors[0]), ctx.rows_per_block):
            cut = [x[where] if i < ctx.row_tensors else x for i, x in enumerate(tensors)]
            leaves = [x.detach().requires_grad_(w) for x, w in zip(cut, needed, strict=True)]
            in_rows, in_all = leaves[: ctx.row_tensors], leaves[ctx.row_tensors :]
            with torch.enable_grad():
                parts = ctx.block(where, in_rows, in_all, Shifts(row_shift[where], column_shift))
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
                if gradient is not None:
                    (total[where] if number < ctx.row_tensors else total).add_(gradient)
        return None, None, None, *totals


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _gradients(asked: list[tuple[Tensor, Tensor]], wanted: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of weighted outputs with regard to the tensors `wanted`."""
    outputs, weights = zip(*asked, strict=True)
    return torch.autograd.grad(outputs, wanted, weights, allow_unused=True)
