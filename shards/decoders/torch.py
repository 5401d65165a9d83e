"""Decoding by torchvision on processor cores: whole batches in worker processes, or in this one.

Axes: `n` clips of a batch on this rank, `S` pixels of an image's side, `T` samples of sound.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import horizontal_flip_image, resize_image

from cacl.annotation import Annotation
from cacl.errors import UserError
from cacl.options import Options
from cacl.processes import end_with_parent
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

_PREFETCHED_BATCHES = 2
"""Batches that each worker process has ready."""


@dataclass(frozen=True)
class TorchDecoder(Options):
    """torchvision in `workers` processes."""

    name: Literal["torch"] = "torch"

    def stream(
        self, reader: ClipReader, requests: Iterable[Request], spec: DecodeSpec, workers: int
    ) -> Iterator[Batch]:
        """Yield one batch a request, in their order, whatever the number of workers (0 = this process)."""
        loader = DataLoader(
            _DecodingDataset(reader, spec),
            batch_size=None,
            sampler=requests,
            num_workers=workers,
            collate_fn=_identity,
            prefetch_factor=_PREFETCHED_BATCHES if workers else None,
            worker_init_fn=_live_and_die_with_the_trainer,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


class _DecodingDataset(Dataset[Batch | UserError]):
    """Maps a request to its batch; an error for the user travels as a value, so that it stays one line."""

    def __init__(self, reader: ClipReader, spec: DecodeSpec) -> None:
        self.reader, self.spec = reader, spec

    def __getitem__(self, request: Request) -> Batch | UserError:
        try:
            return decode(self.reader, request, self.spec)
        except UserError as error:
            return error


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
    return horizontal_flip_image(image) if view.mirrored else image


def _resize(frame: Tensor, height: int, width: int) -> Tensor:
    return resize_image(frame, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)


def _identity(batch: Any) -> Any:
    return batch


def _live_and_die_with_the_trainer(worker: int) -> None:
    """Ignore what launchers send to all processes of a job, and end with the process that started this one.

    A worker that died of a signal would end the run before its checkpoint. And torch's workers see that their
    trainer was killed only where they wait for work: one that waits to hand over a batch would stay for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
