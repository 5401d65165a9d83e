"""What both decoders share: the request, the spec of what is delivered, and clips that cannot be decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cacl.annotation import OWN_SOUND, Annotation
from cacl.errors import UserError
from cacl.media.still import PIXEL_LIMIT
from shards.annotation import read_annotation
from shards.decoders.augmentation import MIDDLE, Augmentation, ClipView, draw

Policy = Literal["raise", "mask"]

_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xDA)) | {0x00, 0x01}
_FILL_LIMIT = 64
"""Bytes of padding in a JPEG's head."""


class BrokenClip(Exception):
    """A stored clip cannot be decoded; the message says why."""


class ClipReader(Protocol):
    """The part of a store that decoding needs. Errors of input and output stay OSError."""

    def read(self, index: int) -> Mapping[str, bytes]:
        """Return the members of a clip by name ("jpg", "wav", "json", ...)."""

    def prefetch(self, indices: np.ndarray) -> None:
        """Begin to fetch what holds these clips, [n] int64; they will be read soon."""

    def where(self, index: int) -> str:
        """Return the shard's file and the clip's key, for messages."""


@dataclass(frozen=True)
class Request:
    """The clips of one batch on one rank."""

    index: np.ndarray
    """[n] int64."""
    key: tuple[int, int] | None
    """Seed and epoch of the random views; None is evaluation."""


@dataclass(frozen=True)
class DecodeSpec:
    """What is to be delivered of every clip."""

    augmentation: Augmentation
    policy: Policy = "raise"
    audio: str = OWN_SOUND
    annotated: bool = False

    def views(self, request: Request, index: int) -> list[ClipView]:
        """Return which parts of clip `index` are cut out, the sound's by the first; evaluation has one."""
        if request.key is None:
            return [MIDDLE]
        return [draw(self.augmentation, *request.key, index, view) for view in range(self.augmentation.views)]

    def image_shape(self, request: Request) -> tuple[int, ...]:
        """Return the shape of the images of a request: [n, 3, S, S], or [n, V, 3, S, S] of V > 1 views."""
        views, size = self.augmentation.views, self.augmentation.size
        several = () if views == 1 or request.key is None else (views,)
        return (len(request.index), *several, 3, size, size)


def member(members: Mapping[str, bytes], name: str) -> bytes:
    """Return a member's bytes. Raises BrokenClip if the clip has none of that name."""
    if name not in members:
        raise BrokenClip(f"the sample has no member {name!r}, only {', '.join(sorted(members))}")
    return members[name]


def frame_bytes(members: Mapping[str, bytes]) -> bytes:
    """Return the stored frame's JPEG. Raises BrokenClip where it is missing, cut off or absurdly large.

    Decoders disagree on cut frames: some raise, some fill with gray.
    """
    jpg = member(members, "jpg")
    if not jpg.endswith(_END_OF_IMAGE):
        raise BrokenClip(f"the frame of {len(jpg)} bytes does not end as a JPEG does")
    height, width = frame_size(jpg)
    if not 0 < height * width <= PIXEL_LIMIT:
        raise BrokenClip(f"the frame's header says {width}×{height} pixels")
    return jpg


def frame_size(jpg: bytes) -> tuple[int, int]:
    """Return height and width as a JPEG's header has them. Raises BrokenClip where that is none."""
    at, filled = (2, 0) if jpg.startswith(_START_OF_IMAGE) else (len(jpg), 0)
    # What libjpeg would search for the next marker is refused: there another header could hide.
    while at + 9 <= len(jpg) and jpg[at] == 0xFF and jpg[at + 1] not in _WITHOUT_LENGTH:
        if jpg[at + 1] in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", jpg, at + 5)
            return height, width
        if jpg[at + 1] == 0xFF:  # one may be repeated before a marker
            at, filled = at + 1, filled + 1
            if filled > _FILL_LIMIT:
                break
        else:  # segments say their length, which counts its own two bytes
            at += 2 + int.from_bytes(jpg[at + 2 : at + 4], "big")
    raise BrokenClip(f"the frame of {len(jpg)} bytes does not begin as a JPEG does")


def annotation(members: Mapping[str, bytes]) -> Annotation:
    """Return what is known of a clip, with its masks. Raises as `read_annotation` does, and BrokenClip."""
    return read_annotation(members, frame_size(member(members, "jpg")))


@contextmanager
def decoding() -> Iterator[None]:
    """Make BrokenClip what decoders raise within: they read bytes in memory, so the clip is at fault."""
    try:
        yield
    except (BrokenClip, UserError, MemoryError):
        raise
    except Exception as error:
        raise BrokenClip(str(error) or type(error).__name__) from error


def own_seconds(note: Annotation | None, spec: DecodeSpec) -> float | None:
    """Return how many seconds of the spec's sound the packer did not repeat; None where nothing says so."""
    return note.seconds if note is not None and spec.audio == OWN_SOUND else None


def refuse(reader: ClipReader, index: int, error: Exception, policy: Policy) -> None:
    """Raise UserError with shard, key and reason under the policy `raise`; do nothing under `mask`."""
    if policy == "raise":
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{reader.where(index)}: the clip cannot be decoded ({reason}); "
            "pack it again, or set broken_clips to mask"
        ) from error
