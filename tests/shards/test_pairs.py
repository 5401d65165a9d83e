"""Prepared folders as people have them: endings in any case, pictures and recordings of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cacl.errors import UserError
from shards.clip import Clip, Rejection, Storage
from shards.sources.flickr import Flickr
from shards.sources.prepared import Prepared
from shards.sources.recordings import decode_samples
from shards.sources.videos import Videos
from tests.shards.films import film
from tests.shards.shown import RATE, ffmpeg, sound

STORAGE = Storage(frame_side=64, seconds=2.0)
SOUNDS: dict[str, list[object]] = {
    "wav": [], "Flac": [], "MP3": [], "ogg": [], "opus": ["-ar", 48000], "aiff": [], "m4a": ["-c:a", "aac"], "aac": [],
    "mka": ["-c:a", "flac"], "wma": [], "webm": ["-c:a", "libopus", "-ar", 48000], "ac3": ["-ar", 48000],
}  # fmt: skip
"""Ending: how FFmpeg is to write it."""


def lay(root: Path, frame: str, audio: str, how: list[object] | None = None) -> None:
    """Write a gray picture and a sound that tells the time, in the kinds that the endings name."""
    for name in (frame, audio):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    kind = Path(frame).suffix.lower().removeprefix(".").replace("jpg", "jpeg")
    with (root / frame).open("wb") as file:
        Image.new("RGB", (96, 64), (90, 90, 90)).save(file, kind)
    raw = root / "raw.wav"
    soundfile.write(raw, sound(3.0), RATE)
    ffmpeg("-i", raw, *(how or []), root / audio)
    raw.unlink()


def pitches(audio: np.ndarray) -> list[float]:
    """Return the strongest frequency of each quarter of a second, Hz."""
    parts = audio[: len(audio) // 4000 * 4000].reshape(-1, 4000) * np.hanning(4000)
    return (np.abs(np.fft.rfft(parts, 1 << 15)).argmax(axis=1) * RATE / (1 << 15)).tolist()


@pytest.mark.parametrize("ending", SOUNDS)
def test_a_recording_of_any_kind_is_heard_as_it_is(tmp_path: Path, ending: str) -> None:
    """20 Hz: half of what the pitch moves within a quarter of a second, and an encoder's delay."""
    lay(tmp_path, "frames/a.png", f"audio/a.{ending}", SOUNDS[ending])
    clip = Prepared(root=tmp_path, storage=STORAGE).read("a")
    assert isinstance(clip, Clip) and clip.seconds == pytest.approx(3.0, abs=0.15)
    np.testing.assert_allclose(pitches(clip.audio), pitches(sound(2.0)), atol=20)


@pytest.mark.parametrize("ending", ["jpg", "JPG", "Jpeg", "png", "PNG", "webp", "WebP"])
def test_a_picture_of_any_ending_is_found_by_both_layouts(tmp_path: Path, ending: str) -> None:
    lay(tmp_path, f"frames/a.{ending}", "audio/a.WAV")
    for kind in (Prepared, Flickr):
        source = kind(root=tmp_path, storage=STORAGE)
        clip = source.read("a")
        assert source.ids() == ["a"] and source.is_there("a") and source.remarks() == []
        assert isinstance(clip, Clip) and abs(clip.frame.astype(int) - 90).max() <= 2


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    lay(tmp_path, "frames/a.jpg", "audio/a.wav")
    (tmp_path / "frames/a.jpg").unlink()
    picture = Image.new("RGBA", (96, 64), (200, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 48, 64))
    picture.save(tmp_path / "frames/a.png")
    clip = Prepared(root=tmp_path, storage=STORAGE).read("a")
    assert isinstance(clip, Clip)
    assert (clip.frame[:, :48] == 255).all() and (clip.frame[:, 48:] == (200, 0, 0)).all()


def test_two_files_of_one_id_are_a_duplicate_and_both_are_named(tmp_path: Path) -> None:
    lay(tmp_path, "frames/a.jpg", "audio/a.wav")
    lay(tmp_path, "frames/a.png", "audio/b.wav")
    lay(tmp_path, "frames/b.png", "audio/b.flac")
    source = Prepared(root=tmp_path, storage=STORAGE)
    assert source.ids() == ["a", "b"]
    assert source.read("a") == Rejection("a", "duplicate id: a.jpg, a.png", "frames/a.jpg")
    assert source.read("b") == Rejection("b", "duplicate id: b.flac, b.wav", "audio/b.flac")


def test_files_beside_frames_and_recordings_are_named(tmp_path: Path) -> None:
    lay(tmp_path, "frames/a.jpg", "audio/a.wav")
    (tmp_path / "frames/more").mkdir()
    for name in ("frames/b.heic", "frames/more/c.jpg", "audio/b.mid"):
        (tmp_path / name).touch()
    source = Prepared(root=tmp_path)
    (remark,) = source.remarks()
    assert source.ids() == ["a"] and "3 files are left out" in remark
    assert all(name in remark for name in ("frames/b.heic", "frames/more/c.jpg", "audio/b.mid"))


@pytest.mark.parametrize("ending", ["m4a", "mka"])
def test_no_truncation_of_a_recording_is_taken_for_whole(tmp_path: Path, ending: str) -> None:
    lay(tmp_path, "frames/a.jpg", f"audio/a.{ending}", SOUNDS[ending])
    path = tmp_path / f"audio/a.{ending}"
    data = path.read_bytes()
    for size in np.random.default_rng(3).integers(0, round(0.8 * len(data)), 12):
        path.write_bytes(data[:size])
        found = Prepared(root=tmp_path, storage=Storage(seconds=3.0)).read("a")
        assert isinstance(found, Rejection), size
        assert found.reason.split(":")[0] in ("empty", "truncated sound", "undecodable sound")


def test_a_list_of_films_in_place_of_one_opens_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 12: FFmpeg would open what a text names, below the folder that one stands in."""
    film(tmp_path / "other.mkv")
    (tmp_path / "listing.mp4").write_text("ffconcat version 1.0\nfile 'other.mkv'\n")
    lay(tmp_path, "frames/listing.jpg", "audio/other.wav")
    (tmp_path / "audio/listing.m4a").write_bytes((tmp_path / "listing.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    for source in (Prepared(root=tmp_path, storage=STORAGE), Videos(root=tmp_path, storage=STORAGE)):
        found = source.read("listing")
        assert isinstance(found, Rejection) and found.reason.startswith("undecodable")


def test_a_folder_without_pictures_and_recordings_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "x/frames").mkdir(parents=True)
    (tmp_path / "x/frames/a.PNG").touch()
    with pytest.raises(UserError, match=r"there lie x/frames/a\.PNG: give --root"):
        Prepared(root=tmp_path).ids()


def test_pictures_and_recordings_may_lie_side_by_side(tmp_path: Path) -> None:
    """As the field hands on test pairs: a.jpg, a.wav and perhaps a.mat in one folder."""
    for name in "ab":
        lay(tmp_path, f"{name}.jpg", f"{name}.wav")
    (tmp_path / "a.mat").write_bytes(b"x")
    (tmp_path / "b.mp4").write_bytes(b"x")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.jpg").read_bytes())
    source = Prepared(root=tmp_path, storage=STORAGE)
    assert source.ids() == ["a", "b", "c"]
    clips = [source.read(id) for id in "abc"]
    assert [isinstance(clip, Clip) for clip in clips] == [True, True, False]
    assert isinstance(clips[2], Rejection) and "missing" in clips[2].reason and clips[2].file == "c.wav"
    (sentence,) = source.remarks()
    assert "2 files are left out" in sentence and "a.mat" in sentence and "b.mp4" in sentence


@pytest.mark.parametrize("ending", ["wav", "m4a"], ids=["libsndfile", "FFmpeg"])
def test_what_lies_around_a_moment_is_heard(tmp_path: Path, ending: str) -> None:
    """Of three seconds the one around 1.5 s, and at the end the last one, whole."""
    lay(tmp_path, "frames/a.png", f"audio/a.{ending}", SOUNDS[ending])
    data = (tmp_path / f"audio/a.{ending}").read_bytes()
    for middle, first in ((1.5, 1.0), (2.9, 2.0)):
        audio, rate = decode_samples(data, 1.0, middle)
        assert rate == RATE and len(audio) == RATE
        expected = sound(3.0)[round(first * RATE) : round((first + 1) * RATE)]
        np.testing.assert_allclose(pitches(audio.mean(1)), pitches(expected), atol=40)


def test_a_folder_of_films_alone_is_not_taken_for_pairs(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="cacl pack videos --root"):
        Prepared(root=tmp_path, storage=STORAGE).ids()
