"""Promise 12: pictures are of named kinds and bounded before anything is allocated for them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cacl.media.still import FORMATS, MASKS, UnreadablePicture, open_picture
from shards.decoders.clip import BrokenClip, frame_bytes
from shards.sources.prepared import Prepared
from tests.shards.tiny import jpg, smooth_picture

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"


def encoded(kind: str, size: tuple[int, int] = (16, 12)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_named_kind_is_read(kind):
    assert open_picture(encoded(kind)).size == (16, 12)


@pytest.mark.parametrize(
    "data", [POSTSCRIPT, encoded("ICO"), encoded("TGA"), encoded("PCX"), b"", b"\xff\xd8"]
)
def test_no_other_kind_is_and_nothing_is_run_for_it(data, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was asked"))
    with pytest.raises(UnreadablePicture, match=r"^undecodable picture: "):
        open_picture(data)


def test_postscript_under_a_picture_s_name_is_a_rejected_clip(tmp_path: Path):
    for folder in ("frames", "audio"):
        (tmp_path / folder).mkdir()
    (tmp_path / "frames/a.jpg").write_bytes(POSTSCRIPT)
    assert "undecodable frame: it is no JPEG" in str(Prepared(root=tmp_path).read("a"))


def test_a_mask_is_a_png_and_nothing_else():
    with pytest.raises(UnreadablePicture, match="it is no PNG"):
        open_picture(encoded("BMP"), MASKS, "mask")


def test_a_header_of_too_many_pixels_is_refused_before_they_are_decoded():
    small = encoded("PNG")
    at = small.index(b"IHDR") + 4
    huge = small[:at] + struct.pack(">II", 60_000, 60_000) + small[at + 8 :]
    with pytest.raises(UnreadablePicture):
        open_picture(huge)


def test_a_second_header_cannot_hide_from_the_pixel_limit():
    frame = jpg(smooth_picture(np.random.default_rng(0), 16, 16))
    at = frame.index(b"\xff\xc0")
    large = bytearray(frame)
    struct.pack_into(">HH", large, at + 5, 40_000, 40_000)
    hidden = bytes(large)[2:-2]
    # FF 00 and a length: a reader of segments would skip what libjpeg looks into.
    smuggled = b"\xff\xd8\xff\x00" + struct.pack(">H", 2 + len(hidden)) + hidden + frame[2:]
    with pytest.raises(BrokenClip, match="does not begin as a JPEG does"):
        frame_bytes({"jpg": smuggled})


def test_padding_in_a_head_is_bounded():
    frame = jpg(smooth_picture(np.random.default_rng(0), 16, 16))
    assert frame_bytes({"jpg": frame[:2] + b"\xff" * 8 + frame[2:]})
    with pytest.raises(BrokenClip):
        frame_bytes({"jpg": frame[:2] + b"\xff" * 100 + frame[2:]})
