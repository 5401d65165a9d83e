"""Decoding by NVIDIA DALI: frames on its threads, or on a GPU; which clip and which crop comes from the host.

DALI draws nothing at random, orders nothing and keeps no state that matters: a pipeline that starts at a
position is fed the clips and the crops of that position. Frames are all that it decodes; sounds are slices of
WAV, which cost nothing.

Axes: `n` clips of a batch on this rank, `V` views of a frame, `S` pixels of an image's side.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cacl.annotation import Annotation
from cacl.errors import UserError
from cacl.options import Options
from cacl.types import Batch
from shards.decoders.audio import waveform
from shards.decoders.augmentation import Augmentation, ClipView, corner, fit_short_side
from shards.decoders.clip import (
    BrokenClip,
    ClipReader,
    DecodeSpec,
    Request,
    annotation,
    decoding,
    frame_bytes,
    frame_size,
    member,
    own_seconds,
    refuse,
)
from shards.decoders.torch import decode

_SCHEDULED_BATCHES = 2
"""Batches that DALI works on while an earlier one is used."""


@dataclass(frozen=True)
class DaliDecoder(Options):
    """DALI with `workers` threads.

    Its images differ from torchvision's by rounding: by 0.5 of 255 at most in the mean, by 8 at sharp edges.
    """

    name: Literal["dali"] = "dali"
    device: Literal["auto", "cpu", "mixed"] = "auto"
    """`mixed` decodes JPEG on the GPU and leaves images there; `auto` takes it where there is a GPU."""

    def stream(
        self, reader: ClipReader, requests: Iterable[Request], spec: DecodeSpec, workers: int
    ) -> Iterator[Batch]:
        """Yield one batch a request, in their order, whatever the number of threads."""
        mixed = self.device == "mixed" or (self.device == "auto" and torch.cuda.is_available())
        waiting: Iterator[_PendingBatch] = (_prepare(reader, request, spec) for request in requests)
        while first := next(waiting, None):
            scheduled: deque[_PendingBatch] = deque()
            source = _feed(chain([first], waiting), scheduled)
            try:
                for images in _decode_images(source, first.mirrored.shape, spec.augmentation, workers, mixed):
                    yield scheduled.popleft().complete(images)
            except RuntimeError:
                # A frame that DALI cannot decode ends its pipeline: torchvision decodes that batch and says
                # which clip it is; a new pipeline goes on with the next.
                yield decode(reader, scheduled.popleft().request, spec)
                waiting = chain(scheduled, waiting)


@dataclass(frozen=True)
class _PendingBatch:
    """A batch of which only the images are missing, and what DALI needs to make them."""

    request: Request
    batch: Batch
    frames: list[np.ndarray]
    starts: np.ndarray
    """[V, n, 2] float32, top and left of the part of the stored frame that a view sees, in its pixels."""
    ends: np.ndarray
    """[V, n, 2] float32, its bottom and right."""
    mirrored: np.ndarray
    """[V, n] int32."""

    def complete(self, images: Tensor) -> Batch:
        """Return the batch with its images, of whose clips the broken ones become zeros."""
        broken = (~self.batch.valid).nonzero().flatten()
        if len(broken):
            images[broken.to(images.device)] = 0
        return replace(self.batch, images=images)


def _feed(waiting: Iterable[_PendingBatch], scheduled: deque[_PendingBatch]) -> Iterator[tuple[Any, ...]]:
    """Yield what DALI asks for, some batches ahead, and note in `scheduled` what it works on."""
    for prepared in waiting:
        scheduled.append(prepared)
        yield prepared.frames, *prepared.starts, *prepared.ends, *prepared.mirrored


def _decode_images(
    source: Iterator[tuple[Any, ...]],
    shape: tuple[int, ...],
    augmentation: Augmentation,
    threads: int,
    mixed: bool,
) -> Iterator[Tensor]:
    """Yield the images of each batch, uint8, on the GPU if `mixed`; `shape` is (V, n). Raises RuntimeError.

    They are [n, 3, S, S], or [n, V, 3, S, S] where V > 1.
    """
    pipeline = _pipeline(source, shape, augmentation, threads, mixed)
    from nvidia.dali.plugin.pytorch import feed_ndarray

    # On the stream that computes: there the memory that torch hands out is free, and nobody waits.
    stream = torch.cuda.current_stream() if mixed else None
    while True:
        try:
            outputs = [output.as_tensor() for output in pipeline.run(stream)]
        except StopIteration:
            return
        device = "cuda" if mixed else "cpu"
        views = [torch.empty(output.shape(), dtype=torch.uint8, device=device) for output in outputs]
        for output, view in zip(outputs, views, strict=True):
            feed_ndarray(output, view, stream)
        yield views[0] if len(views) == 1 else torch.stack(views, 1)


def _pipeline(
    source: Iterator[tuple[Any, ...]],
    shape: tuple[int, ...],
    augmentation: Augmentation,
    threads: int,
    mixed: bool,
) -> Any:
    """Return a pipeline that decodes each frame of n once and gives an output for each of V views."""
    views, batch_size = shape
    try:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline
    except ImportError:
        raise UserError(
            "data.decoder: dali is not installed; in cacl's folder: pip install '.[dali]'; or take torch"
        ) from None
    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=max(threads, 1),
        device_id=torch.cuda.current_device() if mixed else None,
        exec_dynamic=True,
        prefetch_queue_depth=_SCHEDULED_BATCHES,
    )
    with pipeline:
        encoded, *parts = fn.external_source(source=source, num_outputs=1 + 3 * views)
        frames: Any = fn.decoders.image(
            encoded,
            device="mixed" if mixed else "cpu",
            output_type=types.DALIImageType.RGB,
            adjust_orientation=False,  # by default it turns frames as EXIF says; torchvision does not
        )
        dtype, outputs = types.DALIDataType.UINT8, []
        for view in range(views):
            start, end, mirror = parts[view::views]
            images: Any = fn.resize(
                frames,
                roi_start=start,
                roi_end=end,
                size=[augmentation.size, augmentation.size],
                interp_type=types.DALIInterpType.INTERP_CUBIC,
                antialias=True,
            )
            outputs.append(fn.crop_mirror_normalize(images, mirror=mirror, dtype=dtype, output_layout="CHW"))
        pipeline.set_outputs(*outputs)
    pipeline.build()
    return pipeline


def _prepare(reader: ClipReader, request: Request, spec: DecodeSpec) -> _PendingBatch:
    """Read a request's clips and make all but the images. Raises UserError as `decode` does."""
    count, augmentation = len(request.index), spec.augmentation
    notes: list[Annotation] = []
    batch = Batch(
        index=torch.from_numpy(request.index),
        images=torch.empty(0),
        waveforms=torch.zeros(count, augmentation.samples),
        valid=torch.ones(count, dtype=torch.bool),
        annotations=notes if spec.annotated else None,
    )
    frames = [_PLACEHOLDER] * count
    several = 1 if request.key is None else augmentation.views
    regions = np.tile(np.array([0, 0, 1, 1], np.float32), (several, count, 1))
    mirrored = np.zeros((several, count), np.int32)
    for row, index in enumerate(request.index.tolist()):
        members, views = reader.read(index), spec.views(request, index)
        note: Annotation | None = None
        try:
            with decoding():
                jpg = frame_bytes(members)
                whole = request.key is None
                seen = [_region(jpg, augmentation, None if whole else view) for view in views]
                note = annotation(members) if spec.annotated else None
                stored = member(members, spec.audio)
                audio = waveform(stored, augmentation, views[0], own_seconds(note, spec))
        except BrokenClip as error:
            refuse(reader, index, error, spec.policy)
            batch.valid[row] = False
            note = Annotation("", index)
        else:
            # A frame and its region go together: DALI reads beyond a frame that is smaller.
            frames[row], regions[:, row] = np.frombuffer(jpg, np.uint8), seen
            batch.waveforms[row] = torch.from_numpy(audio)
            mirrored[:, row] = [view.mirrored for view in views]
        if note is not None:
            notes.append(note)
    starts, ends = (np.ascontiguousarray(part) for part in np.split(regions, 2, axis=2))
    return _PendingBatch(request, batch, frames, starts, ends, mirrored)


def _region(
    jpg: bytes, augmentation: Augmentation, view: ClipView | None
) -> tuple[float, float, float, float]:
    """Return top, left, bottom, right, in pixels of the stored frame, of what is seen; no view = all."""
    height, width = frame_size(jpg)
    if view is None:
        return 0, 0, height, width
    new_height, new_width = fit_short_side(augmentation, height, width)
    top, left = corner(augmentation, view, new_height, new_width)
    down, across = height / new_height, width / new_width
    size = augmentation.size
    return top * down, left * across, (top + size) * down, (left + size) * across


def _black_frame() -> np.ndarray:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


_PLACEHOLDER = _black_frame()
"""Stands for a broken clip's frame; its pixels are never delivered."""
