"""From an order and a store to batches, from any position on, on any number of ranks and workers.

The loader knows no labels and keeps no state: what the next batch holds follows from the position alone, so a
run goes on where it stopped without reading again what was seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from cacl.errors import UserError
from cacl.types import Batch
from shards.decoders import DecoderOptions
from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import ClipReader, DecodeSpec, Policy, Request
from shards.decoders.torch import TorchDecoder
from shards.order import Order

_AHEAD = 4096
"""Clips that a rank's store hears of before they are read: time to fetch them, 1.5 GB of 10 s clips."""


def training_batches(
    store: ClipReader,
    order: Order,
    position: tuple[int, int] = (0, 0),
    *,
    epochs: int = 1,
    rank: int = 0,
    size: int = 1,
    decoder: DecoderOptions | None = None,
    augmentation: Augmentation | None = None,
    workers: int = 0,
    policy: Policy = "raise",
) -> Iterator[Batch]:
    """Yield this rank's rows of every global batch from `position` = (epoch, batch) to the end of `epochs`.

    By default one process reads, decodes by `TorchDecoder` and cuts by `Augmentation`'s own values.
    `policy` says what a clip that cannot be decoded does: raise UserError with shard and key, or be masked
    (`valid` False). Raises UserError at once where the ranks do not fit the order.
    """
    rows = order.rows(rank, size)
    requests = (
        Request(order.batch(epoch, batch)[rows], (order.seed, epoch))
        for epoch, batch in _positions(position, order.batches_per_epoch, epochs)
    )
    spec = DecodeSpec(augmentation or Augmentation(), policy)
    return (decoder or TorchDecoder()).stream(store, _announce(store, requests), spec, workers)


def evaluation_batches(
    store: ClipReader,
    indices: np.ndarray,
    batch_size: int,
    decoder: DecoderOptions,
    workers: int,
    *,
    augmentation: Augmentation | None = None,
    audio: str = "wav",
    policy: Policy = "raise",
) -> Iterator[Batch]:
    """Yield every clip of `indices` [N] int64 once, in their order, the last batch perhaps smaller.

    Whole frames, the middle of the sound, and annotations with decoded masks. `audio` names the member to
    hear: "other.wav" is the silent object's. The caller deals `indices` to ranks.
    """
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} is less than one clip; use 1 or more")
    requests = (
        Request(indices[start : start + batch_size], None) for start in range(0, len(indices), batch_size)
    )
    spec = DecodeSpec(augmentation or Augmentation(), policy, audio, annotated=True)
    return decoder.stream(store, _announce(store, requests), spec, workers)


def _announce(store: ClipReader, requests: Iterable[Request]) -> Iterator[Request]:
    """Yield the requests after telling the store of them, `_AHEAD` clips before they are read."""
    waiting: deque[Request] = deque()
    clips = 0
    for request in requests:
        store.prefetch(request.index)
        waiting.append(request)
        clips += len(request.index)
        while clips > _AHEAD:
            clips -= len(waiting[0].index)
            yield waiting.popleft()
    yield from waiting


def _positions(start: tuple[int, int], batches_per_epoch: int, epochs: int) -> Iterator[tuple[int, int]]:
    """Yield (epoch, batch) from `start` on, epoch after epoch."""
    epoch, batch = start
    for number in range(epoch * batches_per_epoch + batch, epochs * batches_per_epoch):
        yield divmod(number, batches_per_epoch)
