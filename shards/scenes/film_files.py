"""A folder of films of scenes, with their truth in the form that `cacl pack videos` reads.

A film that is there is not made again.

    train-0000.mp4           H.264 and AAC
    train-0000.tracks.json   who is where in each frame, and who is heard; written last
    masks/…                  visible pixels at the moments of the clips
    clips.csv, boxes.json    a clip a second: --csv and --boxes of `cacl pack videos`
    films.json               what the films were made with
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from cacl.errors import UserError
from cacl.files import write_json, write_text, written
from shards.clip import Array, encode_mask
from shards.plan import refuse_other
from shards.scenes.cast import Cast
from shards.scenes.films import (
    FRAME_RATE,
    HEIGHT,
    SAMPLE_RATE,
    WIDTH,
    Turn,
    boxes_of,
    draw_turns,
    frames_of,
    mix_turns,
    stage,
)
from shards.scenes.source import Scenes
from shards.workers import Done, Report, run_jobs

WINDOW = 3.0
"""Seconds of sound about a clip's frame: `--seconds` of `cacl pack videos`."""
_FILM = 9
"""Keeps the draws of films apart from those of single frames."""


@dataclass(frozen=True)
class FilmMaker:
    """The job of a process that makes films; `scenes` says of what."""

    scenes: Scenes
    seconds: float
    out: Path

    def __call__(self, number: int, crashed: dict[int, str], report: Report) -> None:
        """Write film `number`, unless it is there."""
        report(number)
        name = film_name(self.scenes, number)
        if (self.out / f"{name}.tracks.json").exists():
            return
        random = self.scenes.random(number, _FILM)
        world = self.scenes.world()
        cast = self.scenes.cast_of(number)
        recordings = [world.recording(role.recording, SAMPLE_RATE) for role in cast.roles]
        turns = draw_turns(random, len(cast.roles), self.seconds, self.scenes.silence)
        sound = mix_turns(random, turns, recordings, self.seconds)
        pictures = [world.picture(role.picture) for role in cast.roles]
        scenery, moving = stage(
            random, world.photograph(cast.background), pictures, round(self.seconds * FRAME_RATE)
        )
        boxes: list[Any] = []
        with written(self.out / f"{name}.mp4", suffix=".mp4") as partial:
            frames = self._noting(name, frames_of(scenery, moving), boxes)
            _encode(partial, frames, sound)
        write_json(self.out / f"{name}.tracks.json", _tracks(cast, turns, boxes))

    def _noting(
        self, name: str, frames: Iterator[tuple[Array, list[Array]]], boxes: list[Any]
    ) -> Iterator[Array]:
        """Pass frames on; keep their boxes, and the masks of those that clips will show."""
        for number, (frame, masks) in enumerate(frames):
            boxes.append(boxes_of(masks))
            start, between = divmod(number - _frame_of(0), FRAME_RATE)
            if start >= 0 and not between:
                for k, mask in enumerate(masks):
                    (self.out / _mask_path(name, start, k)).write_bytes(encode_mask(mask))
            yield frame


def make_films(scenes: Scenes, out: Path, *, films: int, seconds: float, workers: int) -> Iterator[int]:
    """Write films of `seconds` into `out`, yielding the number of each that is done; what is there stays.

    Raises UserError for options that give no films, or when `out` holds films of other options.
    """
    if not 1 <= films <= 10_000 or not WINDOW <= seconds <= 600:
        raise UserError(f"--films must lie in 1..10000 and --film-seconds in {WINDOW:g}..600")
    scenes.ids()
    (out / "masks").mkdir(parents=True, exist_ok=True)
    _record_options(scenes, seconds, out)
    for event in run_jobs(FilmMaker(scenes, seconds, out), [[number] for number in range(films)], workers):
        if isinstance(event, Done):
            yield event.number
    names = [film_name(scenes, number) for number in range(films)]
    entries = [entry for name in names for entry in _clips(out, name, seconds)]
    write_json(out / "boxes.json", entries)
    rows = [(entry["file"].rsplit("_", 1)) for entry in entries]
    write_text(out / "clips.csv", "id,start\n" + "".join(f"{id},{int(start)}\n" for id, start in rows))


def film_name(scenes: Scenes, number: int) -> str:
    """Return the name of a film, without its ending."""
    return f"{scenes.split}-{number:04d}"


def _record_options(scenes: Scenes, seconds: float, out: Path) -> None:
    path = out / "films.json"
    ours = json.loads(json.dumps({**scenes.parameters(), "film_seconds": seconds}))
    if path.exists():
        refuse_other(json.loads(path.read_text()), ours, str(out), ours.keys())
    write_json(path, ours)


def _tracks(cast: Cast, turns: list[Turn], boxes: list[Any]) -> dict[str, Any]:
    return {
        "format_version": 1,
        "frame_rate": FRAME_RATE,
        "objects": [
            {"class_name": role.picture.class_name, "boxes": [frame[k] for frame in boxes]}
            for k, role in enumerate(cast.roles)
        ],
        "turns": [turn._asdict() for turn in turns],
    }


def _clips(out: Path, name: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield an entry of boxes.json for each second that has a whole window about its frame."""
    tracks = json.loads((out / f"{name}.tracks.json").read_text())
    for start in range(int(seconds - WINDOW) + 1):
        moment = start + WINDOW / 2
        frame = _frame_of(start)
        who = next((turn["who"] for turn in tracks["turns"] if turn["start"] <= moment < turn["end"]), None)
        sources = []
        for k, one in enumerate(tracks["objects"]):
            box = one["boxes"][frame]
            source = {"class_name": one["class_name"], "boxes": [box] if box else [], "audible": k == who}
            mask = {"mask": _mask_path(name, start, k)} if box else {"visible": False}
            sources.append(source | mask)
        yield {"file": f"{name}_{start:06d}", "sources": sources}


def _frame_of(start: int) -> int:
    """Return the frame in the middle of the window that begins at `start` seconds."""
    return round((start + WINDOW / 2) * FRAME_RATE)


def _mask_path(name: str, start: int, k: int) -> str:
    return f"masks/{name}_{start:06d}.{k}.png"


def _encode(path: Path, frames: Iterator[Array], sound: Array) -> None:
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=FRAME_RATE, options={"crf": "20", "preset": "veryfast"})
        audio = film.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            film.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(video.encode(None))
        heard = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        heard.sample_rate = SAMPLE_RATE
        film.mux(audio.encode(heard))
        film.mux(audio.encode(None))
