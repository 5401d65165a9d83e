"""Show where the sound is in a film, or in a picture with a sound, of your own.

    cacl localize film.mp4 --run runs/demo --out film-sound.mp4
    cacl localize film.mp4 --sound other.wav --start 10 --seconds 20 --side-by-side
    cacl localize frame.jpg --sound sound.wav --run runs/demo --out frame-sound.png --maps frame.npz
    cacl localize films --tracks --export coco --reframe 9:16

A film keeps its own sound; over every frame lies the map of the seconds of sound around it. Colors are on the
model's own scale, from 0 over θ to as sure as it gets: with the θ that `cacl calibrate` fits, only what is
above it is drawn and outlined; where nothing is, the film says so. A folder gives a folder.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from launch.verbs.arguments import add_weights_argument, nonnegative

if TYPE_CHECKING:
    from launch.jobs.localize import Overlay, Overlays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="a film, a picture, or a folder of them")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--run", metavar="RUN", help="a run directory, or an exported file")
    who.add_argument("--model", choices=["tags"], help="one that needs no training (default: tags)")
    parser.add_argument("--sound", metavar="FILE", help="the sound of a picture, or in place of a film's own")
    parser.add_argument(
        "--out", metavar="FILE", help="ends in .mp4, .webm, .mkv, .mov or .gif (default: FILE with -sound)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--start", type=nonnegative, default=0.0, metavar="S", help="begin S seconds in")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="write S seconds (default: all)")
    parser.add_argument(
        "--every", type=_positive, metavar="S", help="seconds between two maps of the model (default: 0.2)"
    )
    parser.add_argument("--side-by-side", action="store_true", help="the film as it was to the left")
    parser.add_argument("--no-strip", action="store_true", help="leave out the strip with the drawn sound")
    parser.add_argument(
        "--maps", nargs="?", const="", metavar="FILE", help="write the raw maps too, as .npz (time, maps)"
    )
    parser.add_argument(
        "--tracks", nargs="?", const="", metavar="FILE", help="write what is found as data too, as JSON"
    )
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        choices=["coco", "cvat", "labelstudio"],
        help="write it for an annotation tool; may be given again",
    )
    parser.add_argument(
        "--reframe", type=_shape, metavar="W:H", help="write the film cut to this shape around what sounds"
    )
    parser.add_argument(
        "--pan",
        type=_positive,
        metavar="SHARE",
        help="of the film's width that the cut moves in a second, at most (default: 0.05)",
    )
    add_weights_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the overlays and say what was found and where they are."""
    from launch.jobs.localize import localize
    from launch.jobs.localize_errands import Part, Wanted

    overlays = localize(
        arguments.file,
        run=arguments.run,
        model=arguments.model,
        audio=arguments.sound,
        out=arguments.out,
        wanted=Wanted(arguments.maps, arguments.tracks, tuple(arguments.export), arguments.reframe),
        part=Part(arguments.start, arguments.seconds),
        every=arguments.every,
        side_by_side=arguments.side_by_side,
        strip=not arguments.no_strip,
        pan=arguments.pan,
        overwrite=arguments.overwrite,
        weights=arguments.weights,
    )
    print("\n".join(_lines(overlays, arguments.run)))
    return 2 if overlays.refused else 0


def _lines(overlays: Overlays, run: str | None) -> list[str]:
    """Return what was found and written, and how far that can be trusted, as lines."""
    lines = []
    for one in overlays.done:
        lines += [verdict(one, run or "RUN"), *map(str, (one.path, *one.written))]
        if one.path.suffix.lower() == ".gif":
            lines.append(f"{one.path}: a GIF has no sound; name an .mp4 or .webm for one with it")
    if overlays.trained_on:
        lines.append(f"the model was trained on {overlays.trained_on}; of what is unlike it, it knows little")
    lines += [
        f"{one.path}: its highest values ({one.highest:.3f}) stay far below those of clips that the model "
        f"knows ({one.best:.3f}): it may not know what is seen or heard here, or what sounds is not in view"
        for one in overlays.done
        if one.far
    ]
    return [*lines, *(f"{path}: left out: {reason}" for path, reason in overlays.refused.items())]


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
        return f"{frames}, in {overlay.sounding} of {overlay.maps} maps something sounds ({theta})"
    return f"something sounds here ({theta})" if overlay.sounding else f"nothing sounds here ({theta})"


def _positive(text: str) -> float:
    number = nonnegative(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 0.2")
    return number


def _shape(text: str) -> tuple[int, int]:
    """Read a shape such as 9:16."""
    wide, colon, tall = text.partition(":")
    if not colon or not all(side.isdecimal() and 1 <= int(side) <= 100 for side in (wide, tall)):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write it as width:height, such as 9:16")
    return int(wide), int(tall)
