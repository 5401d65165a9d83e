"""Decoding by torchvision on processor cores: whole batches in worker processes, or in this one.

Axes: `n` clips of a batch on this rank, `S` pixels of an image's side, `T` samples of sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from cacl.annotation import Annotation
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
    member,
    own_seconds,
    refuse,
)
from shards.decoders.workers import decode_in_workers


@dataclass(frozen=True)
class TorchDecoder(Options):
    """torchvision in `workers` processes."""

    name: Literal["torch"] = "torch"

    def stream(
        self, reader: ClipReader, requests: Iterable[Request], spec: DecodeSpec, workers: int
    ) -> Iterator[Batch]:
        """Yield one batch a request, in their order, whatever the number of workers (0 = this process)."""
        import torchvision.transforms.v2  # noqa: F401  (slow to load: once, before workers are forked)

        if workers:
            yield from decode_in_workers(partial(decode, spec=spec), reader, requests, workers)
        else:
            yield from (decode(reader, request, spec) for request in requests)


def decode(reader: ClipReader, request: Request, spec: DecodeSpec) -> Batch:
    """Return the batch of a request.

    Raises UserError where a clip is broken under the policy `raise`, or has another sample rate.
    """
    batch = Batch(
        index=torch.from_numpy(request.index),
        images=torch.zeros(spec.image_shape(request), dtype=torch.uint8),
        waveforms=torch.zeros(len(request.index), spec.augmentation.samples),
        valid=torch.ones(len(request.index), dtype=torch.bool),
        annotations=[] if spec.annotated else None,
    )
    for row, index in enumerate(request.index.tolist()):
        members = reader.read(index)
        try:
            images, audio, note = _decode_clip(members, spec, spec.views(request, index), request.key is None)
        except BrokenClip as error:
            refuse(reader, index, error, spec.policy)
            batch.valid[row] = False
            note = Annotation("", index)
        else:
            batch.images[row] = images.view_as(batch.images[row])
            batch.waveforms[row] = audio
        if batch.annotations is not None and note is not None:
            batch.annotations.append(note)
    return batch


def _decode_clip(
    members: Mapping[str, bytes], spec: DecodeSpec, views: list[ClipView], whole: bool
) -> tuple[Tensor, Tensor, Annotation | None]:
    """Return images [V, 3, S, S], waveform and annotation (None where none is wanted). Raises BrokenClip."""
    with decoding():
        frame, cut = decode_frame(frame_bytes(members)), spec.augmentation
        images = [whole_image(frame, cut) if whole else crop(frame, cut, view) for view in views]
        note = annotation(members) if spec.annotated else None
        stored = member(members, spec.audio)
        audio = waveform(stored, cut, views[0], own_seconds(note, spec))
        return torch.stack(images), torch.from_numpy(audio), note


def decode_frame(jpg: bytes) -> Tensor:
    """Return a stored frame, [3, H, W] uint8 RGB. Raises RuntimeError where it is broken."""
    from torchvision.io import ImageReadMode, decode_jpeg

    return decode_jpeg(torch.frombuffer(bytearray(jpg), dtype=torch.uint8), ImageReadMode.RGB)


def whole_image(frame: Tensor, augmentation: Augmentation) -> Tensor:
    """Return the whole frame as [3, S, S], as evaluation sees it."""
    return _resize(frame, augmentation.size, augmentation.size)


def crop(frame: Tensor, augmentation: Augmentation, view: ClipView) -> Tensor:
    """Return the view's crop of the resized frame, [3, S, S]."""
    height, width = fit_short_side(augmentation, *frame.shape[1:])
    top, left = corner(augmentation, view, height, width)
    size = augmentation.size
    image = _resize(frame, height, width)[:, top : top + size, left : left + size]
    return image.flip(-1) if view.mirrored else image


def _resize(frame: Tensor, height: int, width: int) -> Tensor:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize_image

    return resize_image(frame, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)
