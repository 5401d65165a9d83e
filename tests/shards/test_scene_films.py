"""Films of scenes: the truth of each frame, and a folder that `cacl pack videos` takes as it is."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cacl.errors import UserError
from cacl.viewing.film import read_audio
from launch.jobs.pack import pack
from shards.clip import Storage
from shards.decoders.clip import annotation
from shards.scenes.film_files import make_films
from shards.scenes.films import FRAME_RATE, SAMPLE_RATE, draw_turns, frames_of, stage
from shards.scenes.source import Scenes
from shards.sources.videos import Videos
from shards.store import open_store
from tests.shards.collected import cut_outs, photographs, recordings

CLASSES = ("bell", "drum", "horn")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Scenes:
    tree = tmp_path_factory.mktemp("tree")
    return Scenes(
        objects=(str(cut_outs(tree / "objects", dict.fromkeys(CLASSES, 3))),),
        sounds=(str(recordings(tree / "sounds", dict.fromkeys(CLASSES, 3))),),
        backgrounds=(str(photographs(tree / "photographs", 3)),),
        fewest=2,
        most=3,
    )


@pytest.fixture(scope="module")
def films(scenes, tmp_path_factory) -> Path:
    """Two films of five seconds."""
    out = tmp_path_factory.mktemp("films")
    assert sorted(make_films(scenes, out, films=2, seconds=5, workers=1)) == [0, 1]
    return out


def test_what_is_heard_in_a_film_changes_as_its_tracks_say(films):
    for path in sorted(films.glob("*.mp4")):
        tracks = json.loads(path.with_suffix(".tracks.json").read_text())
        sound = read_audio(path, SAMPLE_RATE)
        frequencies = np.fft.rfftfreq(SAMPLE_RATE // 2, 1 / SAMPLE_RATE)
        for turn in tracks["turns"]:
            if turn["end"] - turn["start"] < 0.8:
                continue
            middle = round((turn["start"] + turn["end"]) / 2 * SAMPLE_RATE)
            heard = sound[middle - SAMPLE_RATE // 4 : middle + SAMPLE_RATE // 4]
            loudest = frequencies[np.abs(np.fft.rfft(heard)).argmax()]
            name = tracks["objects"][turn["who"]]["class_name"]
            assert abs(loudest - 310 - 100 * CLASSES.index(name)) < 25, (path, turn)
        assert [turn["start"] for turn in tracks["turns"][1:]] == [
            turn["end"] for turn in tracks["turns"][:-1]
        ]


def test_the_tracks_have_a_box_for_each_frame_and_objects_move(films):
    for path in sorted(films.glob("*.mp4")):
        tracks = json.loads(path.with_suffix(".tracks.json").read_text())
        with av.open(str(path)) as film:
            frames = sum(1 for _ in film.decode(video=0))
        assert frames == 5 * FRAME_RATE
        for one in tracks["objects"]:
            assert len(one["boxes"]) == frames
            middles = [(box[0] + box[2]) / 2 for box in one["boxes"] if box]
            assert max(middles) - min(middles) > 0.02


def test_packed_films_carry_the_masks_of_their_moments(films, tmp_path):
    storage = Storage(frame_side=96, seconds=3.0)
    source = Videos(storage, films, csv=films / "clips.csv", boxes=films / "boxes.json")
    manifest = pack(source, tmp_path / "packed")
    assert manifest is not None
    store = open_store(tmp_path / "packed")
    assert len(store.indices) == 6  # a five-second film has three windows of three seconds
    for index in map(int, store.indices):
        note: Any = annotation(store.read(index))
        tracks = json.loads((films / f"{note.film}.tracks.json").read_text())
        assert note.time == pytest.approx(int(note.id[-6:]) + 1.5, abs=1e-3)
        for source_, one in zip(note.sources, tracks["objects"], strict=True):
            box = one["boxes"][round(note.time * FRAME_RATE)]
            assert source_.class_name == one["class_name"]
            assert source_.boxes == (tuple(box),) and source_.mask is not None
            seen = np.argwhere(source_.mask > 0)
            # The mask is reduced from 270 rows to 96: a row of it is a hundredth of the frame.
            assert seen[:, 0].min() / source_.mask.shape[0] == pytest.approx(box[1], abs=0.02)


def test_films_that_are_there_stay_and_others_are_refused(scenes, films):
    before = {path.name: path.stat().st_mtime_ns for path in films.glob("*.mp4")}
    (films / "train-0001.tracks.json").unlink()
    list(make_films(scenes, films, films=2, seconds=5, workers=1))
    after = {path.name: path.stat().st_mtime_ns for path in films.glob("*.mp4")}
    assert before["train-0000.mp4"] == after["train-0000.mp4"] and before != after
    with pytest.raises(UserError, match="film_seconds"):
        list(make_films(scenes, films, films=2, seconds=6, workers=1))
    with pytest.raises(UserError, match=r"--film-seconds in 3\.\.600"):
        list(make_films(scenes, films, films=2, seconds=2, workers=1))


def test_turns_cover_the_film_and_silence_can_be_all_of_it():
    random = np.random.default_rng(0)
    for silence in (0.0, 1.0):
        turns = draw_turns(random, 3, 60.0, silence)
        assert turns[0].start == 0 and turns[-1].end == 60
        assert all(a.end == b.start for a, b in pairwise(turns))
        assert all((turn.who is None) == (silence == 1.0) for turn in turns)
        assert all(a.who != b.who or a.who is None for a, b in pairwise(turns))


def test_a_nearer_object_hides_pixels_of_those_behind():
    random = np.random.default_rng(0)
    picture = np.full((80, 80, 4), 255, np.uint8)
    scenery, moving = stage(random, np.zeros((300, 500, 3), np.uint8), [picture, picture], frames=1)
    front = moving[1]._replace(path=moving[0].path + 10)
    ((_, (behind, before)),) = frames_of(scenery, [moving[0], front])
    assert before.any() and behind.any() and not (before & behind).any()
    ((_, (alone, _)),) = frames_of(scenery, [moving[0], front._replace(path=front.path * 0 - 500)])
    assert (alone & ~behind).any() and not (behind & ~alone).any()
