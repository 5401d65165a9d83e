"""Tiny collections: drawn cut-outs, synthesized recordings, a COCO of two photographs, an ESC-50 of six clips."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image, ImageDraw

RATE = 8000


def cut_out(
    path: Path, color: tuple[int, int, int], extent: tuple[int, int] = (40, 30), border: int = 10
) -> None:
    """Draw an ellipse of one color within a transparent border."""
    width, height = extent
    picture = Image.new("RGBA", (width + 2 * border, height + 2 * border), (*color, 0))
    ImageDraw.Draw(picture).ellipse(
        [border, border, border + width - 1, border + height - 1], fill=(*color, 255)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def tone(path: Path, note: float, seconds: float = 0.5, quiet: float = 0.25) -> None:
    """Write a tone with silence at both its ends."""
    time = np.arange(round(seconds * RATE)) / RATE
    silence = np.zeros(round(quiet * RATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate([silence, 0.5 * np.cos(2 * np.pi * note * time), silence]), RATE)


def cut_outs(folder: Path, counts: dict[str, int]) -> Path:
    """Draw so many different cut-outs of each class."""
    for number, (name, count) in enumerate(counts.items()):
        for k in range(count):
            cut_out(folder / name / f"{k}.png", (40 * number % 255, 25 * k % 255, 90), (30 + k, 30))
    return folder


def recordings(folder: Path, counts: dict[str, int]) -> Path:
    """Write so many different tones of each class."""
    for number, (name, count) in enumerate(counts.items()):
        for k in range(count):
            tone(folder / name / f"{k}.wav", 300 + 100 * number + 10 * k)
    return folder


def photographs(folder: Path, count: int) -> Path:
    """Paint so many photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        pixels = np.random.default_rng(k).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((320, 240)).save(folder / f"photograph{k}.jpg")
    return folder


CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 51, "name": "bowl"}]
SQUARE = [100.0, 60.0, 180.0, 60.0, 180.0, 140.0, 100.0, 140.0]
"""A polygon of 80 × 80 pixels."""


def coco(folder: Path, **changes: Any) -> str:
    """Write photographs a, b and c of 320 × 240 pixels with objects, and return `IMAGES,FILE`.

    a: a dog (polygon), a person (compressed runs), a bowl; b: a dog that the edge cuts, a group of persons
    (runs), and a dog of few pixels; c: a bowl alone.
    """
    images = photographs(folder / "images", 3)
    for k, name in enumerate("abc"):
        (images / f"photograph{k}.jpg").rename(images / f"{name}.jpg")
    person = np.zeros((240, 320), bool)
    person[20:220, 200:260] = True
    group = np.zeros((240, 320), bool)
    group[100:200, 150:300] = True
    annotations = [
        {"id": 5, "image_id": 1, "category_id": 18, "segmentation": [SQUARE]},
        {"id": 12, "image_id": 1, "category_id": 1, "segmentation": {"size": [240, 320], "counts": text_of(runs_of(person))}},
        {"id": 7, "image_id": 1, "category_id": 51, "segmentation": [[20, 20, 80, 20, 80, 80, 20, 80]]},
        {"id": 8, "image_id": 2, "category_id": 18, "segmentation": [[0, 60, 80, 60, 80, 140, 0, 140]]},
        {"id": 9, "image_id": 2, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [240, 320], "counts": runs_of(group)}},
        {"id": 10, "image_id": 2, "category_id": 18, "segmentation": [[290, 10, 310, 10, 310, 30, 290, 30]]},
        {"id": 11, "image_id": 3, "category_id": 51, "segmentation": [[20, 20, 80, 20, 80, 80, 20, 80]]},
    ]  # fmt: skip
    whole = {
        "images": [
            {"id": k + 1, "file_name": f"{name}.jpg", "width": 320, "height": 240}
            for k, name in enumerate("abc")
        ],
        "annotations": [{"iscrowd": 0, "bbox": [0.0], **one} for one in annotations],
        "categories": CATEGORIES,
    }
    file = folder / "instances.json"
    file.write_text(json.dumps(whole | changes))
    return f"{images},{file}"


def runs_of(mask: np.ndarray) -> list[int]:
    """The counts of COCO's runs, down the columns, those outside first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *counts] if flat[0] else counts


def text_of(counts: list[int]) -> str:
    """COCO's text of counts: the other way round from ours, written after the format's description."""
    text = ""
    for k, count in enumerate(counts):
        value = count - counts[k - 2] if k > 2 else count
        while True:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


def esc50(folder: Path) -> Path:
    """Two dogs of one recording, two crying babies of two, and rain."""
    clips = [("1-100-A-0", "dog", "100"), ("1-100-B-0", "dog", "100"), ("2-200-A-20", "crying_baby", "200"),
             ("3-300-A-20", "crying_baby", "300"), ("4-400-A-10", "rain", "400"), ("5-500-A-21", "sneezing", "500")]  # fmt: skip
    (folder / "meta").mkdir(parents=True)
    for k, (name, _, _) in enumerate(clips):
        tone(folder / "audio" / f"{name}.wav", 200 + 50 * k)
    with (folder / "meta/esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for name, category, origin in clips:
            fold, _, take, target = name.split("-")
            writer.writerow([f"{name}.wav", fold, target, category, "True", origin, take])
    return folder
