"""Show where the sound is in a film, or in a picture with a sound, of your own.

    cacl localize film.mp4 --run runs/demo --out film-sound.mp4
    cacl localize frame.jpg --sound sound.wav --run runs/demo --out frame-sound.png --maps frame.npz

A film keeps its own sound; over every frame lies the map of the seconds of sound around it. With the θ that
`cacl calibrate` fits, only what is above it is drawn and outlined; where nothing is, nothing sounds.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from launch.verbs.arguments import add_weights_argument

if TYPE_CHECKING:
    from launch.jobs.localize import Overlay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="a film, or a picture")
    parser.add_argument("--run", required=True, metavar="RUN", help="a run directory, or an exported file")
    parser.add_argument("--sound", metavar="FILE", help="the sound of a picture")
    parser.add_argument("--out", metavar="FILE", help="default: FILE with -sound before its ending")
    parser.add_argument("--maps", metavar="FILE", help="write the raw maps too, as .npz (time, maps)")
    add_weights_argument(parser)


def main(arguments: argparse.Namespace) -> None:
    """Write the overlay and say where it is."""
    from launch.jobs.localize import localize

    overlay = localize(
        arguments.run,
        arguments.file,
        audio=arguments.sound,
        out=arguments.out,
        maps=arguments.maps,
        weights=arguments.weights,
    )
    print(verdict(overlay, arguments.run))
    print(overlay.path)


def verdict(overlay: Overlay, run: str) -> str:
    """Return what was found, as a line: whether something sounds if there is a θ, else how to have one."""
    frames = f"{overlay.frames} frames"
    if overlay.theta is None:
        said = [] if overlay.frames is None else [frames]
        others = ", ".join(overlay.fitted_otherwise)
        why = f"no θ for bicubic upsampling, only for {others}" if others else "no θ"
        fit = f"cacl calibrate --run {run}"
        if run.endswith(".safetensors"):
            fit = "cacl calibrate --run RUN, then cacl export --run RUN"
        return "\n".join([*said, f"{why}: {fit}"])
    theta = f"θ {overlay.theta:.4f}"
    if overlay.frames is not None:
        return f"{frames}, in {overlay.sounding} of them something sounds ({theta})"
    return f"something sounds here ({theta})" if overlay.sounding else f"nothing sounds here ({theta})"
