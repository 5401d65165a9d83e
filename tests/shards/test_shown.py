"""A clip has the frame that a player shows at its moment and the sound that it plays, whatever the container."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacl.media.sound import one_channel, within_one
from cacl.viewing.film import SlidingAudio, frames
from shards.clip import Clip, Rejection, Storage
from shards.sources.prepared import Prepared
from shards.sources.vggsound import VggSound
from shards.sources.videos import Videos
from tests.shards.films import bunny, film
from tests.shards.shown import (
    HEIGHT,
    RATE,
    WIDTH,
    every,
    ffmpeg,
    ffmpegs_frame,
    heard_at,
    sound,
    timed,
    told_by,
    with_matrix,
)

STORAGE = Storage(frame_side=64, seconds=8.0)
NEAR = 0.11
"""Seconds: a column of the picture tells 0.1."""


def clip_of(path: Path, *, csv: Path | None = None, frame_at: float | None = None, id: str = "") -> Clip:
    """Return the clip of a film, alone in its folder."""
    source = Videos(root=path.parent, csv=csv, frame_at=frame_at, storage=STORAGE)
    clip = source.read(id or path.stem)
    assert isinstance(clip, Clip), clip
    return clip


def part_of(path: Path, start: float, frame_at: float) -> Clip:
    """Return the clip that begins at `start`."""
    table = path.parent / "parts.csv"
    table.write_text(f"id,start\n{path.stem},{start:g}\n")
    return clip_of(path, csv=table, frame_at=frame_at, id=f"{path.stem}_{start:06.0f}")


def test_in_a_gap_of_the_frames_the_last_one_is_shown(tmp_path: Path) -> None:
    """B-frames too: the shown one may be one to which no other refers, long before the moment."""
    path = timed(tmp_path / "a.mp4", every(0, 2.6) + every(6, 8), 8.0, codecs=("libx264", "aac"))
    for at in (2.56, 4.0, 5.9):
        clip = clip_of(path, frame_at=at)
        assert clip.time == pytest.approx(2.56) and told_by(clip.frame) == pytest.approx(2.56, abs=NEAR)
    assert clip_of(path, frame_at=6.0).time == pytest.approx(6.0)


def test_the_last_frame_is_shown_until_the_film_ends_and_no_longer(tmp_path: Path) -> None:
    path = timed(tmp_path / "a.mkv", every(0, 3), 6.0)
    assert clip_of(path, frame_at=5.5).time == pytest.approx(2.96)
    beyond = Videos(root=tmp_path, frame_at=6.5, storage=STORAGE).read("a")
    assert isinstance(beyond, Rejection) and beyond.reason.startswith("truncated video: no frame at 6.50 s")


def test_a_picture_that_begins_late_shows_its_first_frame_before(tmp_path: Path) -> None:
    path = timed(tmp_path / "a.mkv", every(2, 6), 6.0)
    assert clip_of(path, frame_at=1.0).time == pytest.approx(2.0)
    clip = clip_of(path, frame_at=4.0)
    assert told_by(clip.frame) == pytest.approx(4.0, abs=NEAR)
    assert heard_at(clip.audio, 4.0) == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_cut_without_encoding_begins_where_it_says(tmp_path: Path, kind: str) -> None:
    """Packets before the cut are kept for the decoder: an edit list hides them, or their times are negative."""
    whole = timed(tmp_path / "in/a.mp4", every(0, 8), 8.0, codecs=("libx264", "aac"))
    path = tmp_path / f"a.{kind}"
    ffmpeg("-ss", 2.5, "-i", whole, "-t", 4, "-c", "copy", path)
    clip = clip_of(path, frame_at=2.0)
    told, heard = told_by(clip.frame), heard_at(clip.audio, 2.0)
    # Containers without edit lists begin at the key frame before the cut, 2.0 s.
    begin = 2.5 if kind == "mp4" else 2.0
    assert told == pytest.approx(begin + 2.0, abs=NEAR + 0.04) and heard is not None
    assert heard == pytest.approx(begin + 2.0, abs=0.1)


FAST = {"preset": "ultrafast", "qp": "4"}
LIVE = {"deadline": "realtime", "cpu-used": "8"}
FORMATS = {
    "ts": ("libx264", "aac"),
    "mpg": ("mpeg2video", "mp2"),
    "ogv": ("libtheora", "libvorbis"),
    "mkv": ("libx264", "pcm_s16le"),
    "avi": ("mpeg4", "pcm_s16le"),
    "mp4": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "3gp": ("mpeg4", "aac"),
    "wmv": ("msmpeg4", "wmav2"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_part_of_any_container_has_its_frame_and_its_sound(tmp_path: Path, kind: str) -> None:
    """Key frames are 8 s apart, and a seek may land on the later one."""
    raw = timed(tmp_path / "raw/a.mkv", every(0, 14, fps=10), 14.0, options=FAST, gop=1)
    video, audio = FORMATS[kind]
    path = tmp_path / f"a.{kind}"
    coded = ["-c:v", video, "-b:v", "600k", "-r", 25, "-g", 200, "-keyint_min", 200, "-c:a", audio]
    coded += ["-deadline", "realtime", "-cpu-used", 8] if video == "libvpx" else []
    ffmpeg("-i", raw, *coded, *(["-ar", 48000] if audio != "pcm_s16le" else []), path)
    shutil.rmtree(tmp_path / "raw")
    clip = part_of(path, 5.0, 2.0)
    # The source has ten frames a second, and containers begin up to 0.07 s before their picture.
    assert told_by(clip.frame) == pytest.approx(6.9, abs=0.1 + NEAR)
    assert clip.time == pytest.approx(7, abs=0.08)
    for at in (0.5, 2.0, 7.0):
        assert heard_at(clip.audio, at) == pytest.approx(5 + at, abs=0.1)


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_what_lacks_in_a_sound_is_silence_and_the_rest_stays_in_step(tmp_path: Path, kind: str) -> None:
    codec = "aac" if kind == "mp4" else "pcm_s16le"
    path = timed(tmp_path / f"a.{kind}", every(0, 8), 8.0, hole=(2, 4), codecs=("libx264", codec))
    audio, localized = clip_of(path).audio, SlidingAudio(path, RATE, 2 * RATE)
    assert heard_at(audio, 3.0) is None
    for at in (1.0, 5.0, 7.0):
        assert heard_at(audio, at) == pytest.approx(at, abs=0.05)
    for at in (1.0, 5.0):
        # The window that is asked for begins a second before.
        assert heard_at(localized.around(at), 1.0) == pytest.approx(at, abs=0.05)


def test_a_film_that_says_no_duration_has_a_middle(tmp_path: Path) -> None:
    whole = timed(tmp_path / "whole/a.webm", every(0, 6), 6.0, codecs=("libvpx", "libopus"), options=LIVE)
    path = tmp_path / "a.webm"
    path.write_bytes(ffmpeg("-i", whole, "-c", "copy", "-f", "webm", "-live", 1, "pipe:1"))
    shutil.rmtree(whole.parent)
    assert told_by(clip_of(path).frame) == pytest.approx(3.0, abs=NEAR)
    assert part_of(path, 2.0, 1.0).time == pytest.approx(3.0, abs=0.05)


MATRICES = {
    "turned by 90": (0, 1, -1, 0),
    "turned by 180": (-1, 0, 0, -1),
    "turned by 270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed otherwise": (0, -1, -1, 0),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("plain") / "a.mp4", seconds=1.2)


@pytest.mark.parametrize("how", MATRICES)
def test_a_film_is_turned_and_mirrored_as_its_matrix_says(tmp_path: Path, how: str) -> None:
    cut = tmp_path / "cut.mp4"
    ffmpeg("-i", bunny(), "-t", 1.2, "-vf", "scale=96:64,setsar=1", "-c:v", "libx264", "-qp", 10, cut)
    path = with_matrix(cut, MATRICES[how])
    shown, ours = ffmpegs_frame(path), clip_of(path, frame_at=0.0).frame
    assert ours.shape == shown.shape
    np.testing.assert_allclose(ours.astype(int), shown.astype(int), atol=4)
    np.testing.assert_array_equal(next(iter(frames(path)))[1], ours)


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    for shape, expected in (("16/11", (64, 140)), ("1/2", (128, 96)), ("448/447", (64, 96))):
        path = tmp_path / shape.replace("/", "-") / "a.mp4"
        path.parent.mkdir()
        ffmpeg("-i", bunny(), "-t", 1.2, "-vf", f"scale=96:64,setsar={shape}", path)
        clip = clip_of(path)
        side = min(expected)
        assert clip.frame.shape[:2] == tuple(round(length * 64 / side) for length in expected)
        assert next(iter(frames(path)))[1].shape[:2] == expected


@pytest.mark.parametrize(
    "options",
    [
        ("-pix_fmt", "yuv420p10le"),
        ("-flags", "+ildct+ilme", "-x264opts", "tff=1"),
        ("-pix_fmt", "yuvj420p"),
        ("-pix_fmt", "gray"),
    ],
    ids=["10 bit", "interlaced", "full range", "gray"],
)
def test_the_colors_are_those_of_ffmpeg(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "a.mkv"
    ffmpeg(
        "-i", bunny(), "-t", 1.2, "-vf", "scale=96:64,setsar=1", "-c:v", "libx264", "-qp", 10, *options, path
    )
    ours, theirs = clip_of(path, frame_at=0.0).frame, ffmpegs_frame(path)
    # FFmpeg enlarges the color of interlaced frames by fields; 4 levels on a picture as small as this.
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < (5 if "+ildct+ilme" in options else 2)


def test_of_several_tracks_the_default_one_is_shown_and_heard(tmp_path: Path) -> None:
    base = timed(tmp_path / "in/base.mkv", every(0, 3), 3.0)
    other = timed(tmp_path / "in/other.mkv", every(4, 7), 3.0, late=4.0)
    path, marks = tmp_path / "a.mkv", []
    for track in ("v", "a"):
        marks += [f"-disposition:{track}:0", "0", f"-disposition:{track}:1", "default"]
    maps = ["-map", "1:v", "-map", "0:v", "-map", "1:a", "-map", "0:a"]
    ffmpeg("-i", base, "-i", other, *maps, "-c", "copy", *marks, path)
    clip = clip_of(path, frame_at=1.0)
    assert told_by(clip.frame) == pytest.approx(1.0, abs=NEAR)
    assert heard_at(clip.audio, 1.0) == pytest.approx(1.0, abs=0.05)
    assert heard_at(SlidingAudio(path, RATE, RATE).around(1.0), 0.5) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("second", [-1.0, -0.97, -0.9])
def test_channels_that_cancel_out_are_heard(tmp_path: Path, second: float) -> None:
    path = timed(tmp_path / "a.mkv", every(0, 3), 3.0, channels=(1.0, second))
    audio, localized = clip_of(path).audio, SlidingAudio(path, RATE, RATE).around(1.0)
    assert np.abs(audio).max() == pytest.approx(0.4, abs=0.01)
    assert heard_at(audio, 1.0) == pytest.approx(1.0, abs=0.05)
    assert np.abs(localized).max() == pytest.approx(0.4, abs=0.01)


def test_other_channels_are_mixed_evenly() -> None:
    random = np.random.default_rng(0)
    for channels in (1, 2, 6):
        samples = random.normal(size=(4000, channels)).astype(np.float32)
        np.testing.assert_allclose(one_channel(samples), samples.mean(axis=1), atol=1e-6)
    left = np.zeros((4000, 2), np.float32)
    left[:, 0] = random.normal(size=4000)
    np.testing.assert_allclose(one_channel(left), left[:, 0] / 2, atol=1e-6)


def test_a_sound_that_turns_from_mono_to_stereo_is_heard_to_its_end(tmp_path: Path) -> None:
    parts = []
    for number, channels in enumerate(((1.0,), (1.0, 1.0))):
        start = 3.0 * number
        raw = timed(
            tmp_path / f"in/{number}.mkv", every(start, start + 3), 3.0, channels=channels, late=start
        )
        parts.append(tmp_path / f"in/{number}.ts")
        coded = ["-c:v", "mpeg2video", "-c:a", "mp2", "-ar", 48000, "-copyts", "-f", "mpegts"]
        ffmpeg("-i", raw, *coded, parts[-1])
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    audio, localized = clip_of(path).audio, SlidingAudio(path, RATE, 2 * RATE)
    for at in (1.5, 4.5):
        assert heard_at(audio, at) == pytest.approx(at, abs=0.1)
        assert localized.around(1.4 + at).shape == (2 * RATE,)


def prepared(root: Path, picture: Image.Image, audio: np.ndarray, **options: Any) -> Clip:
    """Return the clip of a picture and a float WAV."""
    import soundfile

    for folder in ("frames", "audio"):
        (root / folder).mkdir()
    picture.save(root / "frames/a.jpg", **{"format": "PNG", **options})
    soundfile.write(root / "audio/a.wav", audio, RATE, subtype="FLOAT")
    clip = Prepared(root=root, storage=STORAGE).read("a")
    assert isinstance(clip, Clip), clip
    return clip


def test_a_photograph_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = 255
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90° to the right
    stored = Image.fromarray(pixels).rotate(90, expand=True)
    clip = prepared(tmp_path, stored, sound(3.0), format="JPEG", exif=exif, quality=95)
    np.testing.assert_allclose(clip.frame.astype(int), pixels, atol=60)  # of the edges, in JPEG
    assert np.abs(clip.frame.astype(int) - pixels).mean() < 3


def test_gray_of_16_bits_is_not_white(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)
    clip = prepared(tmp_path, Image.fromarray(ramp), sound(3.0))
    np.testing.assert_allclose(clip.frame[..., 1], ramp / 257, atol=0.51)


@pytest.mark.parametrize("loudness", [1.0, 7.5, 32767.0])
def test_floats_of_another_range_keep_their_form(tmp_path: Path, loudness: float) -> None:
    frame = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    audio = prepared(tmp_path, frame, sound(8.0) * loudness).audio
    expected = sound(8.0) if loudness == 1 else sound(8.0) / 0.4
    np.testing.assert_allclose(audio, expected, atol=1e-3)


def test_a_few_peaks_do_not_make_a_sound_quiet() -> None:
    audio = sound(2.0)
    audio[1000:1010] = 50.0
    assert within_one(audio) is audio


# Nothing wrongly thrown away.


def bird(time: float, period: float) -> np.ndarray:
    """Return a meadow [h, w, 3] in which a spot of a fifteenth of the height goes and comes back."""
    pixels = np.full((240, 320, 3), (90, 140, 90), np.uint8)
    x = round(150 + 60 * np.cos(2 * np.pi * time / period))
    pixels[110:126, x : x + 16] = (240, 220, 60)
    return pixels


def tripod(path: Path, period: float | None, quality: int = 28) -> Path:
    """Encode a film in which nothing moves, or a bird."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"".join(bird(k / 25, period or 1e9).tobytes() for k in range(50)))
    pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "320x240", "-r", 25, "-i", raw]
    tone = ["-f", "lavfi", "-i", "sine=440:duration=2"]
    ffmpeg(*pictures, *tone, "-c:v", "libx264", "-crf", quality, "-pix_fmt", "yuv420p", "-g", 12, path)
    raw.unlink()
    return path


def test_still_films_are_left_out_where_that_is_asked_for_and_small_motion_is_seen(tmp_path: Path) -> None:
    """A motion of the period at which frames might be looked at, and one of every second frame, too."""
    for name, period in (("slow", 2.0), ("fifth", 0.2), ("second", 0.08), ("still", None)):
        tripod(tmp_path / f"{name}.mp4", period)
    usual = Videos(root=tmp_path, storage=STORAGE)
    assert all(isinstance(usual.read(id), Clip) for id in usual.ids())
    asked = Videos(root=tmp_path, storage=STORAGE, leave_out_still=True)
    left = [found for id in asked.ids() if isinstance(found := asked.read(id), Rejection)]
    assert [clip.id for clip in left] == ["still"] and left[0].reason.startswith("still frames:")


def test_a_clip_with_boxes_is_never_left_out_for_being_still_silent_or_short(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", seconds=0.6, still=True, audio=np.zeros(9600))
    boxes = tmp_path / "boxes.json"
    boxes.write_text('[{"file": "a", "class": "dog", "bbox": [[0.1, 0.1, 0.5, 0.5]]}]')
    source = Videos(root=tmp_path, storage=STORAGE, leave_out_still=True, shortest=1.0)
    assert isinstance(source.read("a"), Rejection)
    clip = Videos(root=tmp_path, boxes=boxes, storage=STORAGE, leave_out_still=True).read("a")
    assert isinstance(clip, Clip) and clip.seconds is not None and clip.seconds < 1


def test_test_rows_of_vggsound_are_never_left_out(tmp_path: Path) -> None:
    ids = ["abcdefghijk_000001", "abcdefghijk_000002"]
    for id in ids:
        film(tmp_path / f"{id}.mp4", seconds=1.0, still=True, audio=np.zeros(16000))
    (tmp_path / "vggsound.csv").write_text("abcdefghijk,1,dog,train\nabcdefghijk,2,dog,test\n")
    source = VggSound(root=tmp_path, split="all", storage=STORAGE, frame_at=0.5)
    found = [source.read(id) for id in ids]
    assert isinstance(found[0], Rejection) and found[0].reason.startswith("silent:")
    assert isinstance(found[1], Clip)


def test_files_that_a_source_leaves_out_are_counted_and_named(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "films", tmp_path / "elsewhere"
    film(root / "a.mp4")
    film(elsewhere / "more/b.MTS", codec="mpeg2video", audio_codec="mp2")
    for name in ("notes.txt", "one.srt", "two.srt"):
        (root / name).touch()
    (root / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)  # a circle
    (root / "gone.mp4").symlink_to(tmp_path / "nothing")
    source = Videos(root=root, storage=STORAGE)
    assert source.ids() == ["a", "gone", "linked/more/b"]
    assert isinstance(source.read("linked/more/b"), Clip)
    gone = source.read("gone")
    assert isinstance(gone, Rejection) and gone.reason.startswith("missing:")
    (remark,) = source.remarks()
    assert "4 files are left out" in remark
    for words in ("2 of .srt (one.srt, two.srt)", "1 of .txt (notes.txt)", "linked/back"):
        assert words in remark
