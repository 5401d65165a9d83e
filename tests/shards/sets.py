"""Small sets of real media in the layouts of published ones, and what a test asks of their clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image, ImageDraw

from shards.clip import Clip, Rejection, Storage
from tests.shards import shown
from tests.shards.films import film as encoded

SIDE = 64
STORAGE = Storage(frame_side=SIDE, seconds=3.0)
LONG = Storage(frame_side=SIDE, seconds=10.0)


def whole(result: Clip | Rejection) -> Clip:
    assert isinstance(result, Clip), result
    return result


def refused(result: Clip | Rejection) -> str:
    assert isinstance(result, Rejection), "the clip was not rejected"
    return f"{result.file}: {result.reason}"


def picture(path: Path, size: tuple[int, int] = (96, 96), color: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (color, 120, 200)).save(path)
    return path


def mask(path: Path, box: tuple[int, int, int, int] | None, size: tuple[int, int] = (96, 96)) -> Path:
    """White within `box` (pixels, ends included), black elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Image.new("L", size)
    if box is not None:
        ImageDraw.Draw(canvas).rectangle(box, fill=255)
    canvas.save(path)
    return path


def told(path: Path, seconds: float = 5.0) -> Path:
    """A sound that tells the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, shown.sound(seconds), shown.RATE)
    return path


def hears(clip: Clip, time: float) -> float:
    """Return the moment of the file that is heard `time` seconds into the stored sound."""
    found = shown.heard_at(clip.audio, time)
    assert found is not None, "silence"
    return found


def interactive(root: Path, *names: str, folders: tuple[str, str] = ("images", "audio_wav")) -> Path:
    for name in names:
        picture(root / folders[0] / f"{name}.jpg")
        told(root / folders[1] / f"{name}.wav", 10.0)
    return root


def table(path: Path, **boxes: Any) -> Path:
    """As the set has it: paths of a machine that nobody else has, corners at 224 × 224."""
    entries = [
        {"image": f"/mnt/set/visual_frames/{name}.jpg", "audio": f"/mnt/set/audio_wav/{name}.wav", "gt_box": box}
        for name, box in boxes.items()
    ]  # fmt: skip
    path.write_text(json.dumps(entries))
    return path


def s4(root: Path) -> Path:
    """A film of the test split and one of the training split."""
    rows = ["name,start,category,split", "abcdefghijk,0,dog_barking,test", "bbcdefghijk,0,helicopter,train"]
    (root / "s4_meta_data.csv").write_text("\n".join(rows))
    for name, place, count in ("abcdefghijk", "test/dog_barking", 5), ("bbcdefghijk", "train/helicopter", 1):
        told(root / f"s4_data/audio_wav/{place}/{name}.wav")
        for number in range(1, 6):
            picture(root / f"s4_data/visual_frames/{place}/{name}/{name}_{number}.png", color=40 * number)
        for number in range(1, count + 1):
            box = (0, 12 * number, 47, 95)
            mask(root / f"s4_data/gt_masks/{place}/{name}/{name}_{number}.png", box)
    return root


def avatar(root: Path, *, films: bool) -> Path:
    """A film of 10 s at 25 frames a second, or its sound alone; frames 50 and 100 are annotated."""
    film = "abcdefghijk_00030"
    if films:
        encoded(root / f"video/{film}.mp4", seconds=10.0, audio=shown.sound(10.0))
    else:
        told(root / f"audio/{film}.wav", 10.0)
    left = {"segmentation": [[0, 0, 100, 0, 100, 200, 0, 200]], "task": "Multi-entity"}
    right = {
        "segmentation": [[300, 0, 400, 0, 400, 200, 300, 200], [200, 0, 210, 0, 210, 10]],
        "task": "Multi-entity",
    }
    notes: dict[str, list[dict[str, Any]]] = {
        "00050": [left | {"audio_visual_category": "dog"}, right | {"audio_visual_category": "cat"}],
        "00100": [{"audio_visual_category": "dog", "task": "Off-Screen", "bbox": [0, 0, 0, 0]}],
    }  # fmt: skip
    for number, found in notes.items():
        picture(root / f"metadata/{film}/{number}.jpg", (100, 50))
        note = {"original_width": 400, "original_height": 200, "annotations": found}
        (root / f"metadata/{film}/{number}.json").write_text(json.dumps(note))
    return root


FIRST, SECOND = "abcdefghijk_000030", "bbcdefghijk_000000"


def pair(root: Path) -> Path:
    for name, color, hertz in (FIRST, 40, 440), (SECOND, 200, 1000):
        picture(root / f"frames/{name}.jpg", (128, 96), color)
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(10 * 16000) / 16000)
        (root / "audio").mkdir(exist_ok=True)
        soundfile.write(root / f"audio/{name}.wav", tone, 16000)
    entries = [
        {"file": FIRST, "class": "elk bugling", "bbox": [[0.25, 0.5, 0.75, 1.0], [0.9, 0.1, 1.5, 0.2]]},
        {"file": SECOND, "class": "people coughing", "bbox": [[-0.5, 0.0, 0.5, 0.5]]},
    ]
    (root / "vggss.json").write_text(json.dumps(entries))
    (root / "vggsound_duet_test.csv").write_text(f"{FIRST},elk_bugling,{SECOND},people_coughing\n")
    return root


def duets(root: Path, *names: str) -> Path:
    """Frames of a film of 14 s, the boxes as corner, width and height."""
    for name in names:
        picture(root / f"frames/{name}.jpg")
    told(root / "audio/abcdefghijk.wav", 14.0)
    both = {
        "class_src1": "cello",
        "bbox_src1": [0.25, 0.25, 0.25, 0.5],
        "class_src2": "acoustic_guitar",
        "bbox_src2": [0.5, 0.5, 0.4375, 0.25],
    }
    (root / "music_duet.json").write_text(json.dumps([{"file": name, **both} for name in names]))
    return root
