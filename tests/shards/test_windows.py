"""`cacl pack videos --every`: which windows a film has, what each holds, and on which side it lies."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacl.errors import UserError
from launch.jobs.pack import pack, pack_both
from shards.clip import Clip, Rejection, Storage
from shards.sources.cuts import part_id, window_start
from shards.sources.videos import Videos
from shards.sources.windows import Windows, find_windows
from shards.store import open_store
from tests.shards.films import film
from tests.shards.shown import RATE, every, ffmpeg, heard_at, sound, timed, told_by

STORAGE = Storage(frame_side=64, seconds=2.0)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CACL_CACHE", str(folder))
    return folder


def windows_of(root: Path, step: float = 1.5, **options: object) -> Videos:
    return Videos(root=root, every=step, storage=STORAGE, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_each_window_has_its_own_frame_and_sound(tmp_path: Path, ending: str) -> None:
    """Pictures tell the time to two columns, 0.2 s, the sound to 0.1 s."""
    mpeg = ending in ("ts", "avi")
    codecs = ("mpeg2video" if ending == "ts" else "mpeg4", "mp2") if mpeg else ("libx264", "aac")
    raw = timed(tmp_path / "raw.mkv", every(0, 8), 8.0, gop=40)
    (tmp_path / "films").mkdir()
    ffmpeg("-i", raw, "-c:v", codecs[0], "-q:v", 2, "-c:a", codecs[1], tmp_path / f"films/a.{ending}")
    source = windows_of(tmp_path / "films")
    assert source.ids() == ["a_000000", "a_000001.500", "a_000003", "a_000004.500", "a_000006"]
    for number, id in enumerate(source.ids()):
        clip, start = source.read(id), 1.5 * number
        assert isinstance(clip, Clip) and clip.film == "a" and clip.seconds == 2.0
        assert clip.time == pytest.approx(start + 1, abs=0.05)
        assert told_by(clip.frame) == pytest.approx(start + 1, abs=0.2)
        for at in (0.3, 1.0, 1.7):
            assert heard_at(clip.audio, at) == pytest.approx(start + at, abs=0.1)


def test_a_window_is_the_part_that_a_csv_names(tmp_path: Path) -> None:
    timed(tmp_path / "a.mkv", every(0, 6), 6.0)
    table = tmp_path / "parts.csv"
    table.write_text("id,start\na,0\na,1.5\na,3\n")
    named = Videos(root=tmp_path, csv=table, frame_at=1.0, storage=STORAGE)
    cut = windows_of(tmp_path)
    assert cut.ids() == named.ids()
    for id in cut.ids():
        ours, theirs = cut.read(id), named.read(id)
        assert isinstance(ours, Clip) and isinstance(theirs, Clip)
        np.testing.assert_array_equal(ours.frame, theirs.frame)
        np.testing.assert_array_equal(ours.audio, theirs.audio)
        assert ours.annotation == theirs.annotation


@given(st.floats(0.01, 1e4), st.integers(0, 90))
def test_a_name_says_when_its_window_begins_and_no_two_are_alike(step: float, number: int) -> None:
    starts = [window_start(number, step), window_start(number + 1, step)]
    names = [part_id("a_b", start) for start in starts]
    assert [float(name.rpartition("_")[2]) for name in names] == starts
    assert names == sorted(set(names))


def test_a_film_is_as_long_as_its_packets_whatever_its_header_says(tmp_path: Path) -> None:
    whole = timed(tmp_path / "raw/whole.mkv", every(0, 8), 8.0, codecs=("libx264", "aac"))
    (tmp_path / "films").mkdir()
    unsaid = ffmpeg("-i", whole, "-c", "copy", "-f", "matroska", "-live", 1, "-")
    (tmp_path / "films/unsaid.mkv").write_bytes(unsaid)
    mp4 = tmp_path / "films/lying.mp4"
    ffmpeg("-i", whole, "-c", "copy", mp4)
    data = bytearray(mp4.read_bytes())
    for box in (b"mvhd", b"tkhd", b"mdhd"):  # twenty times as long
        at = data.index(box)
        place = at + {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[box]
        length = 20 * int.from_bytes(data[place : place + 4])
        data[place : place + 4] = length.to_bytes(4)
    mp4.write_bytes(data)
    late = timed(tmp_path / "films/soundless-end.mkv", every(0, 8), 5.0)
    paths = [tmp_path / "films/unsaid.mkv", mp4, late]
    found = find_windows(paths, Windows(1.5, 2.0))
    assert [one.count for one in found] == [5, 5, 3]  # the last fits at 6 s; of five seconds of sound at 3 s
    assert [one.length for one in found] == pytest.approx([8, 8, 5], abs=0.1)
    source = windows_of(tmp_path / "films")
    assert all(isinstance(source.read(id), Clip) for id in source.ids())


def test_silent_windows_are_no_clips_and_are_counted(tmp_path: Path) -> None:
    audio = 0.5 * np.sin(2 * np.pi * 440 * np.arange(12 * RATE) / RATE)
    audio[3 * RATE : 7 * RATE] *= 1e-4  # -89 dBFS
    audio[9 * RATE :] *= 4e-3  # -57 dBFS: quiet, not silent
    film(tmp_path / "a.mkv", seconds=12, audio=audio, audio_codec="flac")
    film(tmp_path / "b.mkv", seconds=3, audio=np.zeros(3 * RATE), audio_codec="flac")
    source = windows_of(tmp_path, 1.0, skip_silence=True)
    starts = [0, 1, 2, 6, 7, 8, 9, 10]
    assert source.ids() == [f"a_{start:06d}" for start in starts]
    assert source.remarks() == [
        "--skip-silence: 5 of 13 clips are below -60 dBFS and left out; films that have such: 2"
    ]
    assert len(windows_of(tmp_path, 1.0).ids()) == 13
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"file": "b_000001", "class": "dog", "bbox": [[0.1, 0.1, 0.5, 0.5]]}]))
    drawn = dataclasses.replace(source, boxes=boxes)
    assert "b_000001" in drawn.ids() and isinstance(drawn.read("b_000001"), Clip)


def test_silence_alone_is_a_sentence(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", audio=np.zeros(3 * RATE), audio_codec="flac")
    with pytest.raises(UserError, match=r"^--skip-silence: all 1 clips are below -60 dBFS; look whether"):
        windows_of(tmp_path, skip_silence=True).ids()


def test_a_film_without_a_window_is_one_rejected_clip_that_says_why(tmp_path: Path) -> None:
    film(tmp_path / "short.mkv", seconds=1.5)
    film(tmp_path / "mute.mkv", silent=True)
    film(tmp_path / "twice.mkv")
    film(tmp_path / "twice.mp4")
    (tmp_path / "noise.mp4").write_bytes(b"no film" * 99)
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nothing")
    film(tmp_path / "whole.mkv")
    source = windows_of(tmp_path, skip_silence=True)
    found = {id: source.read(id) for id in source.ids()}
    reasons = {id: one.reason.split(":")[0] for id, one in found.items() if isinstance(one, Rejection)}
    assert reasons == {
        "gone_000000": "missing",
        "mute_000000": "no sound",
        "noise_000000": "undecodable video",
        "short_000000": "too short",
        "twice_000000": "duplicate id",
    }
    assert found.keys() - reasons.keys() == {"whole_000000"}


def test_a_film_that_crashes_its_reader_costs_itself_alone(tmp_path: Path) -> None:
    """Promise 12. The process that looks through the films is killed by one of them, and so is the packing one."""
    for name in ("a", "doom", "z"):
        film(tmp_path / f"films/{name}.mkv")
    code = """
import os, sys
from pathlib import Path
from launch.jobs.pack import pack
from shards.clip import Storage
from shards.sources.video import FilmFile
from shards.sources.videos import Videos

inner = FilmFile.__init__

def deadly(self, film):
    if "doom" in str(film):
        os.abort()
    inner(self, film)

FilmFile.__init__ = deadly
if __name__ == "__main__":
    source = Videos(root=Path("films"), every=1.0, storage=Storage(frame_side=32, seconds=2.0))
    pack(source, Path("out"), max_rejected=0.5)
"""
    (tmp_path / "run.py").write_text(code)
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, check=True, timeout=120)
    (line,) = (tmp_path / "out/rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "doom_000000" and "crashed the decoder" in line
    assert len(open_store(str(tmp_path / "out")).indices) == 4


def test_windows_of_one_film_stay_on_one_side_and_know_their_film(tmp_path: Path) -> None:
    """Promises 11 and 14."""
    for k in range(6):
        film(tmp_path / f"films/{k}.mkv", seconds=4.0, fps=8)
    sides = [tmp_path / "train", tmp_path / "validation"]
    packed = pack_both(windows_of(tmp_path / "films", 1.0), *sides, share=0.4)
    notes = [[store.annotation(int(k)) for k in store.indices] for store in map(open_store, map(str, sides))]
    films = [{note.film for note in side} for side in notes]
    assert films[0] and films[1] and not films[0] & films[1]
    assert films[0] | films[1] == {str(k) for k in range(6)} and sum(map(len, notes)) == 18
    assert {note.time for side in notes for note in side} == {1.0, 2.0, 3.0}
    manifest = packed[sides[0]]
    assert manifest is not None and manifest.parameters["every"] == 1.0


def test_packing_again_finds_the_same_clips_and_looks_no_more(tmp_path: Path, cache: Path) -> None:
    timed(tmp_path / "films/a.mkv", every(0, 6), 6.0)
    first = pack(windows_of(tmp_path / "films", 1.0), tmp_path / "out", shard_size=2)
    (note,) = (cache / "windows").glob("*.json")
    note.write_text(note.read_text().replace('"count": 5', '"count": 4'))
    assert len(dataclasses.replace(windows_of(tmp_path / "films", 1.0), shortest=0.9).ids()) == 4
    note.write_text("torn")
    shutil.rmtree(tmp_path / "out")
    again = pack(windows_of(tmp_path / "films", 1.0), tmp_path / "out", workers=2, shard_size=2)
    assert first is not None and again is not None and first.fingerprint == again.fingerprint


def test_what_was_packed_without_windows_has_the_parameters_that_it_had(tmp_path: Path) -> None:
    assert not {"every", "skip_silence", "windows"} & Videos(root=tmp_path).parameters().keys()


def test_a_list_picks_windows_by_name(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", seconds=5.0)
    (tmp_path / "list.txt").write_text("a_000001.500\na_000009\n")
    source = windows_of(tmp_path, lists=(tmp_path / "list.txt",))
    assert source.ids() == ["a_000001.500", "a_000009"] and isinstance(source.read("a_000001.500"), Clip)
    assert source.read("a_000009") == Rejection(
        "a_000009", "missing: the list names it and no clip of --every is called so"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 3.0, "csv": Path("parts.csv")}, "--every: --csv says already where clips begin"),
        ({"every": 0.0}, "--every: 0 is less than 0.01 seconds"),
        ({"skip_silence": True}, "--skip-silence: is for the clips of --every"),
    ],
)
def test_options_that_do_not_go_together_are_a_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        Videos(root=Path("films"), **options)  # type: ignore[arg-type]


def test_a_clock_that_is_broken_makes_no_endless_list(tmp_path: Path) -> None:
    """Promise 12: packets lie too."""
    timed(tmp_path / "films/a.mkv", [*every(0, 4), *(t + 500_000 for t in every(4, 5))], 4.0)
    (found,) = find_windows([tmp_path / "films/a.mkv"], Windows(1.0, 2.0))
    assert found.count == 3 and found.length == pytest.approx(4.0, abs=0.1)


def test_the_sound_that_tells_the_time_is_loud() -> None:
    """What the tests above take for granted."""
    assert 20 * np.log10(np.sqrt(np.square(sound(2.0)).mean())) > -20
