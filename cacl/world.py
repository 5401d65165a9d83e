"""The processes that train together: the only user of torch.distributed's collectives.

Axes: `N` clips of the global batch, `n` on this rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacl.clock import Clock

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """`size` processes of which this is number `rank`, with its own `device`."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    group: Any = None
    """A torch process group; None is the default group."""
    traffic: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Bytes that this rank received for each kind of collective, counted as a ring moves them."""
    clock: Clock = field(init=False, compare=False, repr=False)
    """Where this rank's time goes; collectives are its part "communication" (DDP's own count as backward)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clock", Clock(self.device))
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is not one of {self.size}")

    @classmethod
    def current(cls, device: torch.device = _CPU) -> World:
        """Return the world of the default process group.

        Without one it is this process alone.
        """
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(device=device)

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes files and prints."""
        return self.rank == 0

    def shares(self, n: int) -> tuple[int, ...]:
        """Return how many rows each rank holds. Waits for the host: call it outside the training step."""
        if self.size == 1:
            return (n,)
        counts = self.gather_objects(n)
        return tuple(counts)

    def gather_rows(self, x: Tensor, shares: Sequence[int] | None = None) -> Tensor:
        """Concatenate every rank's `x` [n, ...] to [N, ...] in rank order, on every rank.

        The gradient is exact: rank r receives the sum over all ranks of their gradients for its rows.
        `shares` names the rows of each rank; None promises that all ranks hold equally many.
        """
        if self.size == 1:
            return x
        return _GatherRows.apply(x, self, tuple(shares or (len(x),) * self.size))

    def reduce_rows(self, x: Tensor, shares: Sequence[int] | None = None) -> Tensor:
        """Sum every rank's `x` [N, ...] over ranks and return this rank's rows [n, ...] of the sum.

        The exact gradient is the transpose: every rank receives the gradient of all N rows.
        """
        if self.size == 1:
            return x
        shares = tuple(shares or (len(x) // self.size,) * self.size)
        return _ReduceRows.apply(x, self, shares)

    def sum_with_gradient(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over ranks, on every rank; the gradients of all ranks are summed too."""
        if self.size == 1:
            return x
        return _Sum.apply(x, self)

    def with_mean_gradient(self, x: Tensor) -> Tensor:
        """Return a copy of `x` whose gradient is the mean of all ranks' gradients.

        `x` is equal on all ranks. For parameters that DDP may hold or not: its own mean, of gradients that
        are equal by then, changes nothing.
        """
        return _MeanGradient.apply(x, self)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over ranks, without gradient; `x` itself is left as it is."""
        return self._reduce(x, dist.ReduceOp.SUM)

    def max(self, x: Tensor) -> Tensor:
        """Return the elementwise maximum of `x` over ranks, without gradient."""
        return self._reduce(x, dist.ReduceOp.MAX)

    def gather_objects(self, value: Any) -> list[Any]:
        """Return every rank's plain value (numbers, strings, lists, dicts) in rank order. Host only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's plain value on every rank. Host only."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1:
            dist.barrier(group=self.group)

    def _reduce(self, x: Tensor, operation: Any) -> Tensor:
        if self.size == 1:
            return x.detach()
        x = x.detach().clone(memory_format=torch.contiguous_format)
        with self.clock("communication"):
            dist.all_reduce(x, op=operation, group=self.group)
        self.count("all_reduce", 2 * x.nbytes * (self.size - 1) // self.size)
        return x

    def _gather(self, x: Tensor, shares: tuple[int, ...]) -> Tensor:
        """[n, ...] of every rank → [N, ...]; unequal shares travel padded to the largest."""
        longest = max(shares)
        padded = x.detach()
        if len(x) < longest:
            padded = torch.cat([padded, x.new_zeros(longest - len(x), *x.shape[1:])])
        whole = x.new_empty(self.size * longest, *x.shape[1:])
        with self.clock("communication"):
            _single("all_gather_single", "all_gather_into_tensor")(
                whole, padded.contiguous(), group=self.group
            )
        self.count("all_gather", (self.size - 1) * padded.nbytes)
        if min(shares) == longest:
            return whole
        return torch.cat([part[:share] for part, share in zip(whole.split(longest), shares, strict=True)])

    def _scatter(self, x: Tensor, shares: tuple[int, ...]) -> Tensor:
        """Sum of every rank's [N, ...] → this rank's [n, ...]."""
        longest = max(shares)
        padded = x.detach()
        if min(shares) < longest:
            padded = x.new_zeros(self.size * longest, *x.shape[1:])
            for part, rows in zip(padded.split(longest), x.detach().split(list(shares)), strict=True):
                part[: len(rows)] = rows
        mine = x.new_empty(longest, *x.shape[1:])
        with self.clock("communication"):
            _single("reduce_scatter_single", "reduce_scatter_tensor")(
                mine, padded.contiguous(), group=self.group
            )
        self.count("reduce_scatter", (self.size - 1) * mine.nbytes)
        return mine[: shares[self.rank]]

    def count(self, kind: str, received: int) -> None:
        """Add bytes that this rank received."""
        self.traffic[kind] = self.traffic.get(kind, 0) + received


def backend_of(device: torch.device) -> str:
    """Return what moves tensors between processes: a GPU's own go past the host."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def _single(name: str, before: str) -> Any:
    """Return a collective by the name that the newest torch gives it, or by the one `before` it."""
    return getattr(dist, name, None) or getattr(dist, before)


class _GatherRows(torch.autograd.Function):
    """Its transpose is a sum over ranks of which each rank keeps its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World, shares: tuple[int, ...]) -> Tensor:
        ctx.world, ctx.shares = world, shares
        return world._gather(x, shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world._scatter(gradients[0], ctx.shares), None, None


class _ReduceRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World, shares: tuple[int, ...]) -> Tensor:
        ctx.world, ctx.shares = world, shares
        return world._scatter(x, shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world._gather(gradients[0], ctx.shares), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world = world
        return world.sum(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.world.sum(gradients[0]), None


class _MeanGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world = world
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.world.sum(gradients[0]) / ctx.world.size, None
