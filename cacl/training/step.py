"""The one training step: fetch is done, what follows is forward, loss, backward, update.

It is GradCache (Gao et al. 2021): embeddings of all micro-batches without a graph; the loss of the global
batch and its gradients with regard to the embeddings; then each micro-batch once more with a graph, which
takes those gradients on to the parameters. It is exact, and its memory is that of one micro-batch. A rank
with a single micro-batch keeps its graph and computes nothing again. Gradients cross ranks once a step, with
the last micro-batch.

Axes: `n` clips on this rank, `m` in a micro-batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from cacl.loss import LossTerms
from cacl.training.batch_norm import RunningStatistics
from cacl.training.ema import Ema
from cacl.training.engines.base import Engine
from cacl.types import ClipLabels, Embeddings

Loss = Callable[[Embeddings, ClipLabels], LossTerms]
TARGET = -1
"""Tells the draws of the target from those of the model."""


@dataclass(frozen=True)
class StepRecord:
    """What a step leaves to be read later; tensors stay on the device until then."""

    terms: LossTerms
    gradient_norm: Tensor
    """0-d, before clipping; not finite where the update was skipped."""
    scalars: dict[str, Tensor]
    """The learned scalars that the loss was computed with, 0-d, without gradient."""


def train_step(
    engine: Engine,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    clips: ClipLabels,
    loss: Loss,
    *,
    seed: int,
    step: int,
    learning_rate_factor: float,
    average: Ema | None = None,
) -> StepRecord:
    """Take one step on this rank's share of the global batch.

    `micro_batches` are the prepared (images, sounds) of `m` clips each, in the order of `clips` [n], of
    which every rank has equally many. Dropout is keyed by (seed, step, place of the clip in the global
    batch), what else a trunk draws by the number of the micro-batch, so neither world size nor the cached
    form's second forward changes it. Clips that are not valid move nothing in the loss's head. `average`, if
    given, makes the targets and follows the model; its masks have keys of their own.
    """
    clock = engine.world.clock
    followed = [engine.module] if average is None else [engine.module, average.module]
    statistics = [RunningStatistics(module) for module in followed]
    rank, sizes = engine.world.rank, [len(images) for images, _ in micro_batches]
    starts = list(accumulate(sizes, initial=rank * sum(sizes)))
    last = len(micro_batches) - 1
    keep_graph = len(micro_batches) == 1
    valid = clips.valid.split(sizes)

    def draws(number: int, *stream: int) -> range:
        """Seed what draws from the global state, and return the clips' keys."""
        torch.manual_seed(derived_seed(seed, step, rank * len(micro_batches) + number, *stream))
        base = derived_seed(seed, step, *stream)
        return range(base + starts[number], base + starts[number + 1])

    def embed(number: int) -> Embeddings:
        return engine.forward(*micro_batches[number], draws(number), valid[number])

    def embed_with_target(number: int) -> Embeddings:
        embeddings = embed(number)
        if average is None:
            return embeddings
        keys = draws(number, TARGET)
        with torch.no_grad():
            target = engine.embed_by(average.module, *micro_batches[number], keys, valid[number])
        return replace(embeddings, target=target)

    parts = []
    with torch.set_grad_enabled(keep_graph), clock("forward"):
        for number in range(len(micro_batches)):
            parts.append(embed_with_target(number))
            for moved in statistics:
                moved.collect()
    leaves = as_leaves(concatenate(parts))
    with clock("loss"):
        terms = loss(leaves, clips)
        terms.loss.backward()
    offset = 0
    for number, part in enumerate(parts):
        with engine.synchronizing(number == last):
            with clock("forward"):
                embeddings = part if keep_graph else embed(number)
            with clock("backward"):
                engine.backward(surrogate(embeddings, leaves, offset, with_scalars=number == last))
        offset += len(part.audio)
    scalars = {name: value.detach().clone() for name, value in leaves.scalars.items()}
    with clock("optimizer"):
        norm = engine.update(learning_rate_factor)
        for moved in statistics:
            moved.finish(engine.world, norm)
        if average is not None:
            average.update()
    return StepRecord(terms, norm, scalars)


def derived_seed(*key: int) -> int:
    """Return a 63-bit seed that is a pure function of `key`."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def concatenate(parts: Sequence[Embeddings]) -> Embeddings:
    """Join embeddings of micro-batches along the clips; learned scalars are those of the first."""
    if len(parts) == 1:
        return parts[0]
    targets = [part.target for part in parts if part.target is not None]
    return Embeddings(
        image=torch.cat([part.image for part in parts]),
        audio=torch.cat([part.audio for part in parts]),
        scalars=parts[0].scalars,
        target=concatenate(targets) if targets else None,
        extra={name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra},
    )


def as_leaves(embeddings: Embeddings) -> Embeddings:
    """Return the same values as leaves that collect gradients (the targets have none)."""

    def leaf(value: Tensor) -> Tensor:
        return value.detach().requires_grad_()

    return replace(
        embeddings,
        image=leaf(embeddings.image),
        audio=leaf(embeddings.audio),
        scalars={name: leaf(value) for name, value in embeddings.scalars.items()},
        extra={name: leaf(value) for name, value in embeddings.extra.items()},
    )


def surrogate(embeddings: Embeddings, leaves: Embeddings, offset: int, with_scalars: bool) -> Tensor:
    """Return the scalar whose gradient is the loss's, through `embeddings` = rows from `offset` of `leaves`.

    Learned scalars belong to the step, not to a micro-batch: they are counted with one of them only. (With
    the others their gradient is 0, not absent: ZeRO 3 wants every parameter in every backward.)
    """
    rows = slice(offset, offset + len(embeddings.audio))
    pairs = [(embeddings.image, leaves.image), (embeddings.audio, leaves.audio)]
    pairs += [(value, leaves.extra[name]) for name, value in embeddings.extra.items()]
    terms = [(value * leaf.grad[rows]).sum() for value, leaf in pairs if leaf.grad is not None]
    for name, value in embeddings.scalars.items():
        grad = leaves.scalars[name].grad
        if grad is not None:
            terms.append(value * (grad * with_scalars))
    return torch.stack(terms).sum()
