"""One of every broken kind through the command itself, and truncations of real files: never silent, never replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from shards.clip import Clip, Rejection, Storage
from shards.sources.prepared import Prepared
from shards.sources.videos import Videos
from shards.store import open_store
from tests.shards.films import bunny, film

SMALL = ["--frame-side", "64", "--seconds", "3", "--workers", "2"]


def pack(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.main", "pack", *map(str, words), *SMALL]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rejected(out: Path) -> dict[str, tuple[str, str]]:
    """Return id → (file, class of fault)."""
    lines = map(json.loads, (out / "rejected.jsonl").read_text().splitlines())
    return {line["id"]: (line["file"], line["reason"].partition(":")[0]) for line in lines}


def stored(out: Path) -> list[str]:
    store = open_store(out)
    return [store.annotation(index).id for index in store.indices]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real film's picture and sound as a prepared clip, `frames/bunny.jpg` and `audio/bunny.wav`."""
    root = tmp_path_factory.mktemp("real")
    (root / "frames").mkdir()
    (root / "audio").mkdir()
    with av.open(str(bunny())) as container:
        frames = list(container.decode(video=0))
        frames[50].to_image().save(root / "frames/bunny.jpg", quality=92)
        container.seek(0)
        audio = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        soundfile.write(root / "audio/bunny.wav", audio.T, container.streams.audio[0].rate, "PCM_16")
    return root


def copies(real: Path, root: Path, ids: list[str]) -> Path:
    for id in ids:
        for name in ("frames/{}.jpg", "audio/{}.wav"):
            (root / name.format(id)).parent.mkdir(parents=True, exist_ok=True)
            (root / name.format(id)).write_bytes((real / name.format("bunny")).read_bytes())
    return root


def test_every_broken_video(tmp_path: Path) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    data = film(root / "whole.mp4").read_bytes()
    film(root / "still.mkv", still=True)
    film(root / "mute.mkv", silent=True)
    film(root / "sound.mkv", picture=False)
    film(root / "silent.mkv", audio=np.zeros(48000))
    film(root / "short.mkv", seconds=0.5)
    film(root / "nan.mkv", audio=np.full(48000, np.nan), audio_codec="pcm_f32le")
    (root / "twice.mp4").write_bytes(data)
    (root / "twice.mov").write_bytes(data)
    (root / "zero.mp4").write_bytes(b"")
    (root / "text.mp4").write_bytes(b"<html>Video unavailable</html>" * 100)
    (root / "half.mp4").write_bytes(data[: len(data) // 2])
    parts, more = tmp_path / "list.txt", tmp_path / "more.txt"
    parts.write_text("".join(f"{path.stem}\n" for path in root.iterdir()) + "gone\n")

    still = "--leave-out-still"
    refused = pack("videos", "--root", root, "--out", out, still)
    assert (
        refused.returncode == 2
        and "10 of 11 clips are rejected, more than --max-rejected 0.05" in refused.stderr
    )
    done = pack("videos", "--root", root, "--out", out, still, "--max-rejected", "1")
    assert done.returncode == 0 and "1 clips in 1 shards" in done.stdout, done.stderr
    assert stored(out) == ["whole"]
    assert rejected(out) == {
        "still": ("still.mkv", "still frames"),
        "mute": ("mute.mkv", "no sound"),
        "sound": ("sound.mkv", "no video"),
        "silent": ("silent.mkv", "silent"),
        "short": ("short.mkv", "too short"),
        "nan": ("nan.mkv", "not finite"),
        "twice": ("", "duplicate id"),
        "zero": ("zero.mp4", "empty"),
        "text": ("text.mp4", "undecodable video"),
        "half": ("half.mp4", "undecodable video"),
    }
    more.write_text("gone too")
    listed_out = tmp_path / "listed"
    lists: list[str | Path] = ["--list", parts, "--list", more]
    listed = pack("videos", "--root", root, "--out", listed_out, *lists, "--max-rejected", "1")
    assert listed.returncode == 0, listed.stderr
    found = rejected(listed_out)
    assert found["gone"] == ("gone", "missing") and found["gone too"] == ("gone too", "missing")
    assert found["twice"] == ("", "duplicate id")


def test_every_broken_prepared_clip(real: Path, tmp_path: Path) -> None:
    kinds = ["cut-frame", "cut-sound", "no-frame", "no-sound", "rate", "nan", "silent", "short", "zero"]
    root, out = copies(real, tmp_path / "prepared", ["whole", *kinds]), tmp_path / "out"
    for path, share in ((root / "frames/cut-frame.jpg", 2), (root / "audio/cut-sound.wav", 2)):
        os.truncate(path, path.stat().st_size // share)
    (root / "frames/no-frame.jpg").unlink()
    (root / "audio/no-sound.wav").unlink()
    os.truncate(root / "frames/zero.jpg", 0)
    soundfile.write(root / "audio/rate.wav", np.ones(100), 7)
    soundfile.write(root / "audio/nan.wav", np.full(48000, np.nan), 16000, "FLOAT")
    soundfile.write(root / "audio/silent.wav", np.zeros(48000), 16000)
    soundfile.write(root / "audio/short.wav", np.ones(800), 16000)
    done = pack("prepared", "--root", root, "--out", out, "--max-rejected", "0.9")
    assert done.returncode == 0, done.stderr
    assert stored(out) == ["whole"]
    assert rejected(out) == {
        "cut-frame": ("frames/cut-frame.jpg", "undecodable frame"),
        "cut-sound": ("audio/cut-sound.wav", "truncated sound"),
        "no-frame": ("frames/no-frame.jpg", "missing"),
        "no-sound": ("audio/no-sound.wav", "missing"),
        "rate": ("audio/rate.wav", "wrong rate"),
        "nan": ("audio/nan.wav", "not finite"),
        "silent": ("audio/silent.wav", "silent"),
        "short": ("audio/short.wav", "too short"),
        "zero": ("frames/zero.jpg", "empty"),
    }


def test_every_broken_annotation(real: Path, tmp_path: Path) -> None:
    boxes = (
        "<annotation><object><bbox><n>a</n><x>{}</x><y>0</y><x>{}</x><y>9</y></bbox></object></annotation>"
    )
    root, out = copies(real, tmp_path / "flickr", ["1", "2", "3", "4"]), tmp_path / "out"
    (root / "1.xml").write_text(boxes.format(0, 9))
    (root / "2.xml").write_text(boxes.format(0, 9)[:50])
    (root / "3.xml").write_text(boxes.format(300, 400))
    done = pack("flickr", "--root", root, "--boxes", root, "--out", out, "--max-rejected", "1")
    assert done.returncode == 0, done.stderr
    assert stored(out) == ["1"]
    assert rejected(out) == {
        "2": ("2.xml", "unreadable XML"),
        "3": ("3.xml", "box outside the frame"),
        "4": ("4.xml", "missing"),
    }


def test_a_few_broken_clips_are_counted_and_the_exit_code_is_0(real: Path, tmp_path: Path) -> None:
    root, out = copies(real, tmp_path / "prepared", [f"{k:02d}" for k in range(20)]), tmp_path / "out"
    (root / "audio/07.wav").write_bytes(b"")
    done = pack("prepared", "--root", root, "--out", out)
    assert done.returncode == 0 and "19 clips in 1 shards" in done.stdout
    assert f"1 rejected (see {out / 'rejected.jsonl'})" in done.stdout
    assert rejected(out) == {"07": ("audio/07.wav", "empty")} and len(stored(out)) == 19


def test_a_file_name_that_is_no_text_is_one_sentence(real: Path, tmp_path: Path) -> None:
    root = copies(real, tmp_path / "prepared", ["a"])
    (root / "frames/a.jpg").rename(os.fsdecode(os.fsencode(root) + b"/frames/\xff.jpg"))
    done = pack("prepared", "--root", root, "--out", tmp_path / "out")
    assert done.returncode == 2 and "the file name '\\udcff' is not UTF-8; rename it" in done.stderr


def seconds_of(clip: Clip) -> float:
    assert clip.seconds is not None, "files have a length"
    return clip.seconds


def cuts(size: int, count: int, seed: int) -> list[int]:
    """Return lengths that a file of `size` bytes may be cut to: some anywhere, and each of the last few bytes."""
    return [*np.random.default_rng(seed).integers(0, size, count).tolist(), *range(size - 3, size)]


def test_no_truncation_of_a_real_recording_is_taken_for_whole(real: Path, tmp_path: Path) -> None:
    root = copies(real, tmp_path, ["a"])
    source, path = Prepared(root=root, storage=Storage(seconds=3.0)), root / "audio/a.wav"
    data = path.read_bytes()
    for size in cuts(len(data), 40, seed=1):
        path.write_bytes(data[:size])
        result = source.read("a")
        assert isinstance(result, Rejection) and result.file == "audio/a.wav", size
        assert result.reason.split(":")[0] in ("empty", "undecodable sound", "truncated sound")


def test_no_truncation_of_a_real_picture_is_taken_for_whole(real: Path, tmp_path: Path) -> None:
    root = copies(real, tmp_path, ["a"])
    source, path = Prepared(root=root, storage=Storage(seconds=3.0)), root / "frames/a.jpg"
    data, whole = path.read_bytes(), source.read("a")
    assert isinstance(whole, Clip) and data.endswith(b"\xff\xd9")
    for size in cuts(len(data), 40, seed=2):
        path.write_bytes(data[:size])
        result = source.read("a")
        if isinstance(result, Clip):  # what lacks are bytes of the end marker, after the last pixel
            assert size >= len(data) - 2
            np.testing.assert_array_equal(result.frame, whole.frame)
        else:
            assert result.file == "frames/a.jpg"
            assert result.reason.split(":")[0] in ("empty", "undecodable frame")


def test_no_truncation_of_a_real_film_is_taken_for_whole(tmp_path: Path) -> None:
    path, data = tmp_path / "bunny.mp4", bunny().read_bytes()
    source = Videos(root=tmp_path, storage=Storage(seconds=5.0))
    path.write_bytes(data)
    whole = source.read("bunny")
    assert isinstance(whole, Clip)
    for size in cuts(len(data), 25, seed=3):
        path.write_bytes(data[:size])
        result = source.read("bunny")
        if isinstance(result, Clip):
            # Only a cut within the last half second may pass, and then what is there is right.
            assert seconds_of(result) >= seconds_of(whole) - 0.5
            np.testing.assert_array_equal(result.frame, whole.frame)
            there = int((seconds_of(result) - 0.1) * 16000)
            np.testing.assert_allclose(result.audio[:there], whole.audio[:there], atol=1e-6)
        else:
            classes = (
                "empty",
                "truncated",
                "truncated video",
                "undecodable video",
                "undecodable sound",
                "no video",
            )
            assert result.reason.split(":")[0] in (*classes, "no sound", "too short"), result


def test_a_picture_of_another_name_is_a_frame_all_the_same(real: Path, tmp_path: Path) -> None:
    """The field's folders hold PNGs that are called .jpg."""
    root = copies(real, tmp_path, ["a"])
    Image.open(real / "frames/bunny.jpg").save(root / "frames/a.jpg", "PNG")
    assert isinstance(Prepared(root=root).read("a"), Clip)
