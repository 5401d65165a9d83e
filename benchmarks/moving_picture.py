"""Draw the README's moving picture from a run of the demo: what the map does when the sound changes.

    python -m benchmarks.moving_picture --run runs/demo --data data/scenes/test --out docs/demo.webp

Every scene is a held-out test frame of two objects. First its own sound is played, then the other object's;
each picture's map is that of the three seconds around the cursor. Shown are scenes in which the peak is right
for both sounds, those with the largest objects first.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import cacl
from cacl.annotation import OTHER_SOUND, OWN_SOUND, Box
from cacl.evaluation.upsampling import upsample
from cacl.viewing.localize import SoundFinder
from cacl.viewing.pictures import overlay
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches
from shards.store import open_store

RATE = 8
"""Pictures a second."""
SIDE, STRIP, GAP = 224, 40, 10
"""Pixels of a scene, of the curve below it, and between scenes."""
FIRST, SECOND, INK, PAPER = (31, 119, 180), (214, 96, 20), (40, 40, 40), (255, 255, 255)


@dataclass(frozen=True)
class Scene:
    """A frame, what is heard in it one after another, and the maps."""

    frame: np.ndarray
    """[S, S, 3] uint8."""
    audio: np.ndarray
    """[2 T]: the own sound and then the other object's."""
    names: tuple[str, str]
    scores: torch.Tensor
    """[F, S, S], a map for each picture."""


def main() -> None:
    """Choose the scenes, localize and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="a run of the demo")
    parser.add_argument("--data", required=True, help="packed test clips of the demo")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .webp")
    parser.add_argument("--scenes", type=int, default=3, help="how many, side by side (default: 3)")
    arguments = parser.parse_args()
    scenes = find_scenes(cacl.load(arguments.run), arguments.data, arguments.scenes)
    pictures = [draw(scenes, k) for k in range(len(scenes[0].scores))]
    pictures[0].save(
        arguments.out,
        save_all=True,
        append_images=pictures[1:],
        duration=1000 // RATE,
        loop=0,
        quality=55,
        method=6,
    )
    print(f"{arguments.out}: {len(pictures)} pictures, {arguments.out.stat().st_size / 1e6:.2f} MB")


def find_scenes(finder: SoundFinder, data: str, count: int) -> list[Scene]:
    """Return the scenes with the largest objects in which the peak is right for both sounds."""
    store = open_store(data)
    sounds = [
        evaluation_batches(store, store.indices, 20, TorchDecoder(), 0, audio=a)
        for a in (OWN_SOUND, OTHER_SOUND)
    ]
    found: list[tuple[float, Scene]] = []
    for own, other in zip(*sounds, strict=True):
        for k, note in enumerate(own.annotations or []):
            frame = own.images[k].permute(1, 2, 0).numpy()
            pair = own.waveforms[k].numpy(), other.waveforms[k].numpy()
            one, two = note.heard[0], note.heard_in(OTHER_SOUND)[0]
            boxes = [box for source in (one, two) for box in source.boxes or ()]
            scores = upsample(finder.maps([frame, frame], list(pair)), SIDE, "bicubic")
            if all(has_peak(score, box) for score, box in zip(scores, boxes, strict=True)):
                audio, area = np.concatenate(pair), min(map(area_of, boxes))
                names = one.class_name, two.class_name
                found.append((area, Scene(frame, audio, names, scores)))
    best = sorted(found, key=lambda one: -one[0])[:count]
    return [Scene(one.frame, one.audio, one.names, listen(finder, one)) for _, one in best]


def has_peak(scores: torch.Tensor, box: Box) -> bool:
    """Say whether the highest pixel of a map [S, S] lies in a box."""
    y, x = divmod(int(scores.argmax()), SIDE)
    return box[0] <= (x + 0.5) / SIDE < box[2] and box[1] <= (y + 0.5) / SIDE < box[3]


def area_of(box: Box) -> float:
    """Return a box's share of the frame."""
    return (box[2] - box[0]) * (box[3] - box[1])


def listen(finder: SoundFinder, scene: Scene) -> torch.Tensor:
    """Return the maps [F, S, S] of the windows around each picture's moment."""
    seconds = len(scene.audio) / finder.sample_rate
    centers = np.arange(round(seconds * RATE)) / RATE * finder.sample_rate
    last = len(scene.audio) - finder.samples
    starts = [int(min(max(0, center - finder.samples // 2), last)) for center in centers]
    windows = [scene.audio[start : start + finder.samples] for start in starts]
    return upsample(finder.maps([scene.frame] * len(windows), windows), SIDE, "bicubic")


def draw(scenes: list[Scene], k: int) -> Image.Image:
    """Return picture `k`: the scenes side by side, what is heard, and the curve with the cursor."""
    width = len(scenes) * (SIDE + GAP) - GAP
    page = Image.new("RGB", (width, SIDE + 26 + STRIP), PAPER)
    for number, scene in enumerate(scenes):
        left = number * (SIDE + GAP)
        page.paste(draw_map(scene, k), (left, 0))
        draw_sound(ImageDraw.Draw(page), scene, k, left)
    return page


def draw_map(scene: Scene, k: int) -> Image.Image:
    """Return the frame with the map and a ring at its peak, paled so that heat is seen on warm colors too."""
    gray = scene.frame.mean(2, keepdims=True)
    pale = (0.3 * scene.frame + 0.5 * gray).astype(np.uint8)
    scores = scene.scores[k]
    low, high = float(scene.scores.median()), float(scene.scores.max())
    picture = overlay(torch.from_numpy(pale).permute(2, 0, 1), scores, low=low, high=high, opacity=1.0)
    y, x = divmod(int(scores.argmax()), SIDE)
    ImageDraw.Draw(picture).ellipse((x - 9, y - 9, x + 9, y + 9), outline=PAPER, width=2)
    return picture


def draw_sound(pen: ImageDraw.ImageDraw, scene: Scene, k: int, left: int) -> None:
    """Draw what is heard now, and the curve of the sound with the cursor."""
    at, half = k / len(scene.scores), len(scene.audio) // 2
    color, name = (FIRST, scene.names[0]) if at < 0.5 else (SECOND, scene.names[1])
    pen.text(
        (left, SIDE + 4), f"you hear: {name.replace('_', ' ')}", fill=color, font=ImageFont.load_default(15)
    )
    peaks = np.array([part.max() for part in np.array_split(np.abs(scene.audio), SIDE)])
    peaks[: SIDE // 2] /= np.abs(scene.audio[:half]).max() + 1e-6
    peaks[SIDE // 2 :] /= np.abs(scene.audio[half:]).max() + 1e-6
    middle = SIDE + 26 + STRIP // 2
    for x, peak in enumerate(peaks):
        reach = max(1, round(peak * STRIP / 2))
        pen.line(
            (left + x, middle - reach, left + x, middle + reach), fill=FIRST if x < SIDE // 2 else SECOND
        )
    cursor = left + round(at * SIDE)
    pen.rectangle((cursor, SIDE + 26, cursor + 1, SIDE + 26 + STRIP), fill=INK)


if __name__ == "__main__":
    main()
