"""Pictures in files: the one place where those of unknown origin are opened.

Pillow would hand PostScript to Ghostscript and knows dozens of rare formats; only those named here are read,
and none whose header announces more pixels than a frame may have.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cacl.files import regular

PIXEL_LIMIT = 2**26
"""Pixels of a frame; a larger one is refused before anything is allocated for it."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""What a user's picture may be, whatever its file is called; older Pillows know no AVIF."""
MASKS = ("PNG",)
FRAMES = ("JPEG",)


class UnreadablePicture(ValueError):
    """A picture that is of no known kind, too large, or broken."""


def open_picture(
    source: bytes | Path, formats: tuple[str, ...] = FORMATS, what: str = "picture"
) -> Image.Image:
    """Return a picture whose pixels are decoded to the last row; errors call it `what`.

    Raises UnreadablePicture, or OSError when the file cannot be read.
    """
    data = source if isinstance(source, bytes) else regular(source, "give a picture").read_bytes()
    try:
        image = open_head(io.BytesIO(data), formats)
        if image.width * image.height > PIXEL_LIMIT:
            raise UnreadablePicture(f"too large: {image.width}×{image.height} pixels")
        image.load()
    except (UnreadablePicture, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they meet; the bytes are in memory
        raise UnreadablePicture(f"undecodable {what}: {_explain(error, formats)}") from None
    return image


def as_shown(image: Image.Image) -> Image.Image:
    """Return a picture as viewers show it, in RGB: turned as its EXIF says, 16 bits of gray made 8.

    What is transparent lies on white.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # Pillow would cut off what is over 255
        gray = np.clip(np.asarray(upright).astype(np.int64) / 257, 0, 255)
        upright = Image.fromarray(np.rint(gray).astype(np.uint8))
    if upright.has_transparency_data:
        seen = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return upright.convert("RGB")


def open_head(file: Path | io.BytesIO, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Return a picture of which the head alone is read. Raises what Pillow raises."""
    Image.init()
    return Image.open(file, formats=[name for name in formats if name in Image.OPEN])


def _explain(error: Exception, formats: tuple[str, ...]) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is no {' or '.join(formats)}"
    return str(error) or type(error).__name__
