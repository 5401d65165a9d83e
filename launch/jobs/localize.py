"""Show where the sound is in a film, or in a picture with a sound, of one's own, or that nothing sounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

import cacl
from cacl.errors import UserError
from cacl.viewing.finder import SoundFinder
from cacl.viewing.localize import localize_film, localize_picture, read_recording
from shards.pictures import UnreadablePicture, as_shown, open_picture

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class Overlay:
    """What was written."""

    path: Path
    frames: int | None = None
    """Of a film."""
    theta: float | None = None
    """Above it something sounds; None where no θ was fitted, and so no area is claimed."""
    sounding: int = 0
    """Maps that have something above θ: of a picture's one, or of a film's."""
    fitted_otherwise: tuple[str, ...] = ()
    """Upsamplings of θs that do not serve, since maps are drawn by another one."""


def localize(
    run: str | Path,
    file: str | Path,
    *,
    audio: str | None = None,
    out: str | Path | None = None,
    maps: str | None = None,
    weights: Literal["model", "ema"] | None = None,
) -> Overlay:
    """Write the overlay of a film, or of a picture and its sound `audio`, and return where it is.

    `run` is a run directory or an exported file, `out` is next to the file by default, and `maps` names an
    .npz for the raw maps. Raises UserError if a file cannot be read or would be overwritten.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give a film, or a picture and --sound FILE")
    still = path.suffix.lower() in PICTURES
    if still and not audio:
        raise UserError(f"{path}: has no sound; give the sound of this picture with --sound FILE")
    target = Path(out or path.with_name(f"{path.stem}-sound{path.suffix if still else '.mp4'}"))
    if target.resolve() == path.resolve():
        raise UserError(f"--out {target}: is the file that is read; name another")
    finder = cacl.load(run, weights)
    sounding: list[bool | None] = []
    frames = None
    if still and audio:
        raw = _localize_picture(finder, path, audio, target, maps)
        sounding.append(finder.sounds(torch.from_numpy(raw)))
    else:
        frames = localize_film(finder, path, target, maps, lambda raw: sounding.append(finder.sounds(raw)))
    others = () if finder.theta is not None else tuple(one.upsampling for one in finder.calibrations)
    return Overlay(target, frames, finder.theta, sum(map(bool, sounding)), others)


def _localize_picture(finder: SoundFinder, path: Path, audio: str, out: Path, maps: str | None) -> np.ndarray:
    """Write one picture's overlay and return its map [h, w].

    Raises UserError for a picture or a sound that cannot be read.
    """
    try:
        frame = np.asarray(as_shown(open_picture(path)))
    except (OSError, UnreadablePicture) as error:
        raise UserError(f"{path}: cannot be read as a picture: {error}") from error
    overlay, raw = localize_picture(finder, frame, read_recording(finder, audio))
    overlay.save(out)
    if maps:
        np.savez(maps, time=np.zeros(1), maps=raw[None])
    return raw
