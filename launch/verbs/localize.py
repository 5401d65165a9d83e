"""Show where the sound is in a film, or in a picture with a sound, of your own.

    cacl localize film.mp4 --run runs/demo --out film-sound.mp4
    cacl localize frame.jpg --sound sound.wav --run runs/demo --out frame-sound.png --maps frame.npz

A film keeps its own sound; over every frame lies the map of the seconds of sound around it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cacl.errors import UserError

if TYPE_CHECKING:
    from cacl.viewing.localize import SoundFinder

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="a film, or a picture")
    parser.add_argument("--run", required=True, metavar="RUN", help="a run directory, or an exported file")
    parser.add_argument("--sound", metavar="FILE", help="the sound of a picture")
    parser.add_argument("--out", metavar="FILE", help="default: FILE with -sound before its ending")
    parser.add_argument("--maps", metavar="FILE", help="write the raw maps too, as .npz (time, maps)")
    parser.add_argument("--weights", choices=["model", "ema"], default="model", help="default: model")


def main(arguments: argparse.Namespace) -> None:
    """Write the overlay and say where it is."""
    import cacl

    path = Path(arguments.file)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give a film, or a picture and --sound FILE")
    still = path.suffix.lower() in PICTURES
    if still and not arguments.sound:
        raise UserError(f"{path}: has no sound; give the sound of this picture with --sound FILE")
    out = Path(arguments.out or path.with_name(f"{path.stem}-sound{path.suffix if still else '.mp4'}"))
    if out.resolve() == path.resolve():
        raise UserError(f"--out {out}: is the file that is read; name another")
    finder = cacl.load(arguments.run, arguments.weights)
    if still:
        picture(finder, path, arguments.sound, out, arguments.maps)
    else:
        film(finder, path, out, arguments.maps)
    print(out)


def picture(finder: SoundFinder, path: Path, sound: str, out: Path, maps: str | None) -> None:
    """Write one picture's overlay. Raises UserError for a picture or a sound that cannot be read."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    from cacl.viewing.localize import localize_picture, read_recording

    try:
        frame = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: cannot be read as a picture: {error}") from error
    drawn, raw = localize_picture(finder, frame, read_recording(finder, sound))
    drawn.save(out)
    if maps:
        np.savez(maps, time=np.zeros(1), maps=raw[None])


def film(finder: SoundFinder, path: Path, out: Path, maps: str | None) -> None:
    """Write a film's overlay."""
    from cacl.viewing.localize import localize_film

    count = localize_film(finder, path, out, maps)
    print(f"{count} frames")
