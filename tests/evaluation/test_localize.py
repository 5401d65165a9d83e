"""One's own film, picture and sound: written whole, in constant memory, refused in one sentence."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cacl.errors import UserError
from cacl.model import audio as sound
from cacl.model import image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.types import Embeddings
from cacl.viewing.film import Part, SlidingAudio, facts, frames, open_film
from cacl.viewing.finder import SoundFinder, middle
from cacl.viewing.follow import _is_cut, follow, soundtrack
from cacl.viewing.loaded import LoadedFinder
from cacl.viewing.localize import Look, localize_film, localize_picture
from cacl.viewing.strip import strip_height
from tests.shards.films import bunny

RATE = 16000


class LoudAbove(Localizer):
    """Points at the upper half while the sound is positive, at the lower while it is negative."""

    def __init__(self):
        super().__init__(ModelOptions(image=image.SmallCnn(channels=8), audio=sound.SmallCnn(channels=8)))
        self.upper = torch.nn.Parameter(torch.linspace(1, -1, 49).reshape(1, 1, 49))

    def prepare(self, images, waveforms):
        return images.float(), waveforms.mean(1)

    def forward(self, images, spectrograms, keys=None, valid=None):
        cosine = self.upper.expand(len(images), 1, 49)
        maps = torch.stack([cosine, (1 - cosine**2).clamp(min=0).sqrt()], dim=-1)
        audio = torch.stack([spectrograms.sign(), torch.zeros_like(spectrograms)], dim=-1)[:, None]
        return Embeddings(image=maps, audio=audio)


@pytest.fixture
def finder():
    return SoundFinder(LoudAbove(), sample_rate=RATE)


def make_film(path, seconds=4, audio=True, picture=True, start=0):
    """A film whose sound is positive in its first half and negative in its second; its clock begins at `start`."""
    with av.open(str(path), "w") as film:
        if picture:
            video = film.add_stream("libx264", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if audio:
            audio_stream = film.add_stream("pcm_s16le", rate=RATE)
            samples = np.full((1, RATE * seconds), 8000, np.int16)
            samples[:, samples.shape[1] // 2 :] *= -1
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = RATE, start * RATE, Fraction(1, RATE)
            film.mux(audio_stream.encode(frame))
            film.mux(audio_stream.encode(None))
        if picture:
            for number in range(10 * seconds):
                pixels = np.full((48, 64, 3), number % 256, np.uint8)
                shown = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                shown.pts, shown.time_base = 10 * start + number, Fraction(1, 10)
                film.mux(video.encode(shown))
            film.mux(video.encode(None))
    return path


def test_a_film_becomes_a_film_of_the_same_frames_with_its_sound(finder, tmp_path):
    source, out, maps = make_film(tmp_path / "in.mkv"), tmp_path / "out.mp4", tmp_path / "maps.npz"
    heard: list[float] = []
    assert localize_film(finder, source, out, maps, lambda shown: heard.append(shown.time)) == 40
    with av.open(str(out)) as film:
        written = [frame.time for frame in film.decode(video=0)]
        assert film.streams.video[0].height == 48 + strip_height((48, 64))
    assert written == pytest.approx([time for time, _ in frames(source)], abs=1e-4)
    with open_film(out) as film:
        length = sum(frame.samples for frame in film.decode(audio=0)) / RATE
    assert length == pytest.approx(4, abs=0.15)  # AAC comes in frames of 1024 samples and starts with one
    saved = np.load(maps)
    assert saved["maps"].shape == (20, 7, 7)
    np.testing.assert_allclose(saved["time"], np.arange(20) / 5, atol=1e-3)
    assert saved["time"].tolist() == heard
    upper = saved["maps"][:, 0].mean(1) > 0
    # Windows of 3 s around 0 … 3.8 s lie within the film from 0.5 to 2.5 s; their mean turns at its middle.
    assert upper[:10].all()
    assert not upper[11:].any()


def test_between_two_maps_of_a_scene_lie_others_and_none_across_a_cut(finder, tmp_path):
    source = make_film(tmp_path / "in.mkv")
    pictures = [(k / 10, np.full((48, 64, 3), 0 if k < 23 else 200, np.uint8)) for k in range(30)]
    sound = soundtrack(source, Part())
    shown = list(follow(finder, pictures, 0.0, sound, False, every=0.4))
    measured = [round(one.time, 1) for one in shown if one.measured]
    assert measured == [0, 0.4, 0.8, 1.2, 1.6, 2, 2.3, 2.7]
    assert _is_cut(pictures[22][1], pictures[23][1]) and not _is_cut(pictures[21][1], pictures[22][1])
    by_time = {round(one.time, 1): one.raw for one in shown}
    assert np.sign(by_time[1.6][0]).tolist() == [1] * 7 and np.sign(by_time[2.3][0]).tolist() == [-1] * 7
    np.testing.assert_allclose(by_time[1.7], 0.75 * by_time[1.6] + 0.25 * by_time[2.0], atol=1e-5)
    for time in (2.1, 2.2):
        np.testing.assert_array_equal(by_time[time], by_time[2.0])


def test_a_part_of_a_film_begins_and_ends_where_it_is_asked_to_with_its_sound(finder, tmp_path):
    source, out, maps = make_film(tmp_path / "in.mkv", seconds=9), tmp_path / "out.mp4", tmp_path / "maps.npz"
    assert localize_film(finder, source, out, maps, look=Look(Part(3.5, 2.0))) == 20
    assert np.load(maps)["time"][[0, -1]].tolist() == pytest.approx([3.5, 5.3], abs=1e-3)
    with av.open(str(out)) as film:
        assert [frame.time for frame in film.decode(video=0)][:2] == pytest.approx([0, 0.1], abs=1e-4)
        film.seek(0)
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    assert len(sound) / RATE == pytest.approx(2, abs=0.15)
    turn = np.flatnonzero(sound < -0.1)[0] / RATE
    assert turn == pytest.approx(1, abs=0.1), "the sound turns at 4.5 s of the film"
    # At 3.5 s the window reaches before the part, as in the whole film.
    whole = SlidingAudio(source, RATE, 3 * RATE).around(3.5)
    np.testing.assert_array_equal(SlidingAudio(source, RATE, 3 * RATE, start=3.5).around(3.5), whole)


def test_a_dubbed_film_has_the_other_sound_and_its_map_and_then_silence(finder, tmp_path):
    source = make_film(tmp_path / "in.mkv", audio=False)
    assert facts(source).frames_of(Part()) == 40
    soundfile.write(tmp_path / "other.wav", np.full(2 * RATE, -0.3, np.float32), RATE)
    out, maps = tmp_path / "out.webm", tmp_path / "maps.npz"
    assert localize_film(finder, source, out, maps, dub=tmp_path / "other.wav") == 40
    upper = np.sign(np.load(maps)["maps"][:, 0].mean(1))
    assert upper.tolist() == [-1] * 18 + [0] * 2, "from 3.5 s on the window holds the silence after it alone"
    with av.open(str(out)) as film:
        assert film.streams.audio[0].codec_context.name == "opus"
        length = sum(frame.samples for frame in film.decode(audio=0)) / 48000
    assert length == pytest.approx(2, abs=0.1)
    soundfile.write(tmp_path / "long.wav", np.full(9 * RATE, 0.3, np.float32), RATE)
    localize_film(finder, source, tmp_path / "long.mp4", dub=tmp_path / "long.wav")
    with av.open(str(tmp_path / "long.mp4")) as film:
        assert (film.duration or 0) / av.time_base == pytest.approx(4, abs=0.15), "it ends with its picture"


def test_a_gif_has_the_frames_and_no_sound(finder, tmp_path):
    source, out = make_film(tmp_path / "in.mkv", seconds=1), tmp_path / "out.gif"
    assert localize_film(finder, source, out, look=Look(side_by_side=True, strip=False)) == 10
    with Image.open(out) as gif:
        assert (getattr(gif, "n_frames", 1), gif.size, gif.info["duration"]) == (10, (128, 48), 100)


def test_the_film_is_read_once_and_little_of_it_is_held(tmp_path):
    source = make_film(tmp_path / "long.mkv", seconds=60)
    audio = SlidingAudio(source, RATE, 3 * RATE)
    longest = 0
    for time in np.arange(0, 60, 0.1):
        window = audio.around(time)
        assert window.shape == (3 * RATE,)
        longest = max(longest, len(audio._held))
    with av.open(str(source)) as film:
        packet = max(frame.samples for frame in film.decode(audio=0))
    assert longest <= 4 * 3 * RATE + packet


def test_windows_are_the_sound_around_the_moment(tmp_path):
    path = tmp_path / "ramp.wav"
    ramp = np.arange(10 * RATE, dtype=np.float32) / (10 * RATE)
    soundfile.write(path, ramp, RATE, subtype="FLOAT")
    audio = SlidingAudio(path, RATE, 3 * RATE)
    for time in (0.0, 0.7, 1.5, 4.0, 8.0, 8.5, 9.9):
        first = min(max(round((time - 1.5) * RATE), 0), 7 * RATE)
        np.testing.assert_allclose(audio.around(time), ramp[first : first + 3 * RATE], atol=1e-6)


def test_a_film_whose_clock_does_not_begin_at_zero_is_heard_at_the_right_moments(tmp_path):
    """Cut films keep their clock: the first frame of this one stands at 7 s."""
    path = make_film(tmp_path / "cut.mkv", seconds=8, start=7)
    assert next(frames(path))[0] == pytest.approx(7, abs=0.01)
    audio = SlidingAudio(path, RATE, 2 * RATE)
    for time, sign in ((7.0, 1), (9.9, 1), (12.1, -1), (14.9, -1)):
        assert np.sign(audio.around(time)).tolist() == [sign] * 2 * RATE, time


def test_a_film_that_fails_half_way_leaves_what_was_there_before_and_no_thread(tmp_path):
    class Fails(LoudAbove):
        def forward(self, images, spectrograms, keys=None, valid=None):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls > 1:
                raise RuntimeError("out of memory")
            return super().forward(images, spectrograms, keys)

    source, out = make_film(tmp_path / "in.mkv"), tmp_path / "out.mp4"
    out.write_text("an earlier film")
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="out of memory"):
        localize_film(SoundFinder(Fails(), sample_rate=RATE), source, out)
    assert out.read_text() == "an earlier film"
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mp4"}
    assert threading.active_count() == before


def test_who_stops_a_film_stops_its_threads(finder, tmp_path):
    """As Ctrl-C does: the error is raised where frames are written."""
    source, out = make_film(tmp_path / "in.mkv", seconds=30), tmp_path / "out.mp4"
    before, count = threading.active_count(), 0

    def interrupt():
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        localize_film(finder, source, out, drawn=interrupt)
    assert not out.exists() and threading.active_count() == before


def test_a_short_sound_is_repeated_and_of_a_long_one_the_middle_is_heard():
    assert middle(np.array([1.0, 2.0]), 5).tolist() == [1, 2, 1, 2, 1]
    assert middle(np.arange(9), 3).tolist() == [3, 4, 5]


def test_a_picture_and_a_sound(finder):
    picture = np.zeros((40, 60, 3), np.uint8)
    drawn, raw = localize_picture(finder, picture, np.ones(100, np.float32))
    assert drawn.size == (60, 40)
    assert raw.shape == (7, 7)
    assert raw[0, 0] == pytest.approx(1)
    pixels = np.asarray(drawn).astype(int).sum(2)
    assert pixels[:10].mean() > 100 > pixels[-10:].mean()


def test_a_real_film_of_a_camera_is_localized(finder, tmp_path):
    """H.264 with AAC at 44.1 or 48 kHz, another size and rate."""
    source = bunny()
    out = tmp_path / "out.mp4"
    assert localize_film(finder, source, out, look=Look(Part(0, 0.5))) == 13
    with open_film(out) as film:
        track = film.streams.video[0]
        assert (track.width, track.height) == (1280, 720 + strip_height((720, 1280)))


@pytest.mark.parametrize(("audio", "picture", "missing"), [(False, True, "sound"), (True, False, "picture")])
def test_a_film_without_sound_or_picture_is_one_clear_sentence(finder, tmp_path, audio, picture, missing):
    source = make_film(tmp_path / "in.mkv", 1, audio, picture)
    with pytest.raises(UserError, match=f"in.mkv: has no {missing}"):
        localize_film(finder, source, tmp_path / "out.mp4")


def test_what_is_not_a_film_is_one_clear_sentence(finder, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a film")
    with pytest.raises(UserError, match=r"notes.mp4: .*give a video"):
        localize_film(finder, text, tmp_path / "out.mp4")


def test_pictures_of_other_modes_are_read(finder, tmp_path):
    path = tmp_path / "gray.png"
    Image.new("L", (30, 20), 90).save(path)
    drawn, _ = localize_picture(finder, np.asarray(Image.open(path).convert("RGB")), np.ones(10, np.float32))
    assert drawn.size == (30, 20)


def test_a_loaded_finder_writes_parts_of_films_and_overwrites_nothing_unasked(tmp_path):
    """The library's way: `cacl.load(...).localize(...)`."""
    loaded = LoadedFinder(LoudAbove(), sample_rate=RATE)
    source = make_film(tmp_path / "film.mov")
    written = loaded.localize(source, maps=tmp_path / "maps.npz", start=1, seconds=2, every=0.5)
    assert written == tmp_path / "film-mov-sound.mp4"
    with av.open(str(written)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 20
    assert len(np.load(tmp_path / "maps.npz")["time"]) == 4
    for out, sentence in [
        (None, "film-mov-sound.mp4: is there already; name another, or give overwrite=True"),
        (source, "film.mov: is the film that is read; name another"),
        (tmp_path / "film.txt", "film.txt"),
    ]:
        with pytest.raises(UserError, match=sentence):
            loaded.localize(source, out)
    assert loaded.localize(source, overwrite=True, seconds=0.3, side_by_side=True) == written
