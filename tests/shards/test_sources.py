"""Every kind of broken input is classified (promise 12); what is whole is read exactly."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import wave
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from shards.clip import Clip, Rejection, Storage
from shards.sources import SOURCES, source_class
from shards.sources.boxes import checked_boxes, flickr_boxes
from shards.sources.flickr import Flickr
from shards.sources.lists import read_list
from shards.sources.media import BrokenMedia, Needs, fit_audio
from shards.sources.prepared import Prepared
from shards.sources.vggsound import VggSound
from shards.sources.vggss import VggSs
from shards.sources.videos import Videos
from tests.shards.films import bunny, film

STORAGE = Storage(frame_side=64, seconds=3.0)


def tone(seconds: float = 3.0, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_wav(path: Path, audio: np.ndarray, rate: int = 16000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as writer:
        writer.setparams((channels, 2, rate, 0, "NONE", ""))
        writer.writeframes(np.rint(audio * 32767).astype("<i2").repeat(channels).tobytes())
    return path


def write_frame(path: Path, size: tuple[int, int] = (120, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    gradient = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    Image.fromarray(gradient).save(path)
    return path


def prepared(root: Path, *ids: str) -> Prepared:
    for id in ids:
        write_frame(root / f"frames/{id}.jpg")
        write_wav(root / f"audio/{id}.wav", tone())
    return Prepared(root=root, storage=STORAGE)


def reason(result: Clip | Rejection) -> str:
    assert isinstance(result, Rejection), "the clip was not rejected"
    return result.reason


def whole(result: Clip | Rejection) -> Clip:
    assert isinstance(result, Clip), result
    return result


def test_the_ids_of_a_prepared_folder_are_the_union_of_frames_and_audio(tmp_path: Path) -> None:
    source = prepared(tmp_path, "a", "b", "c")
    (tmp_path / "frames/a.jpg").unlink()
    (tmp_path / "audio/c.wav").unlink()
    assert source.ids() == ["a", "b", "c"]
    assert source.read("a") == Rejection("a", "missing: there is no such file", "frames/a.jpg")
    assert source.read("c") == Rejection("c", "missing: there is no such file", "audio/c.wav")
    clip = whole(source.read("b"))
    assert (
        clip.frame.shape == (64, 85, 3)
        and clip.audio.shape == (48000,)
        and clip.annotation == Annotation("b", seconds=3.0)
    )


def _spoil_wav(data: bytes, kind: str) -> bytes:
    return {"empty": b"", "half": data[: len(data) // 2], "header": data[:30], "text": b"not a sound" * 100}[
        kind
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", "empty"),
        ("half", "truncated sound"),
        ("header", "undecodable sound"),
        ("text", "undecodable sound"),
    ],
)
def test_a_broken_recording_is_named(tmp_path: Path, kind: str, expected: str) -> None:
    source = prepared(tmp_path, "a")
    path = tmp_path / "audio/a.wav"
    path.write_bytes(_spoil_wav(path.read_bytes(), kind))
    assert reason(source.read("a")).startswith(expected + ":")


def test_silent_short_infinite_and_badly_sampled_sounds_are_told_apart() -> None:
    for audio, rate, expected in [
        (np.zeros(48000), 16000, "silent"),
        (np.full(48000, np.nan), 16000, "not finite"),
        (tone(0.5), 16000, "too short"),
        (np.empty(0), 16000, "too short"),
        (tone(), 7, "wrong rate"),
    ]:
        with pytest.raises(BrokenMedia, match=f"^{expected}:"):
            fit_audio(audio[:, None].astype(np.float32), rate, STORAGE, Needs())


@pytest.mark.parametrize("keep", [0, 10, 300, 0.5, 0.98])
def test_a_truncated_frame_is_rejected(tmp_path: Path, keep: float) -> None:
    source = prepared(tmp_path, "a")
    path = tmp_path / "frames/a.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or keep == 0 else keep * len(data))])
    assert reason(source.read("a")).split(":")[0] in ("empty", "undecodable frame")


def test_reasons_are_the_same_from_run_to_run(tmp_path: Path) -> None:
    source = prepared(tmp_path, "frame", "sound")
    (tmp_path / "frames/frame.jpg").write_bytes(b"no picture" * 50)
    (tmp_path / "audio/sound.wav").write_bytes(b"no sound" * 50)
    assert (
        reason(source.read("frame"))
        == "undecodable frame: it is no JPEG or PNG or WEBP or GIF or BMP or TIFF or AVIF or PPM"
    )
    assert reason(source.read("sound")) == "undecodable sound: Error opening the file: Format not recognised."


def test_a_frame_that_claims_a_huge_size_is_not_decoded(tmp_path: Path) -> None:
    source = prepared(tmp_path, "a")
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")  # a bomb: 100 kB that unfold to 900 million pixels
    (tmp_path / "frames/a.jpg").write_bytes(file.getvalue())
    assert reason(source.read("a")).startswith(("too large", "undecodable frame"))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_sound_is_resampled_to_the_exact_length_and_keeps_its_pitch(rate: int) -> None:
    recording = fit_audio(tone(4.0, rate)[:, None], rate, STORAGE, Needs())
    assert recording.samples.shape == (48000,) and recording.seconds == 4.0
    spectrum = np.abs(np.fft.rfft(recording.samples * np.hanning(48000)))
    assert spectrum.argmax() * 16000 / 48000 == pytest.approx(440, abs=0.5)
    # What lies over the old or the new band is gone: nothing else reaches a thousandth of the tone.
    spectrum[1320 - 12 : 1320 + 12] = 0
    assert spectrum.max() < 1e-3 * 48000 / 4


def test_aliases_are_filtered_out() -> None:
    recording = fit_audio(tone(3.0, 44100, hertz=12000)[:, None], 44100, STORAGE, Needs())
    middle = recording.samples[1000:-1000]  # the ends of a sound that is cut hold every frequency
    assert np.abs(middle).max() < 0.01 * 0.5


def test_a_short_sound_is_repeated_and_its_length_kept(tmp_path: Path) -> None:
    source = prepared(tmp_path, "a")
    write_wav(tmp_path / "audio/a.wav", tone(1.25), channels=2)
    clip = whole(source.read("a"))
    assert clip.seconds == 1.25
    np.testing.assert_array_equal(clip.audio[20000:40000], clip.audio[:20000])


def test_a_recording_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    source = prepared(tmp_path, "a")
    path = tmp_path / "audio/a.wav"
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # what recorders leave that write to a pipe
    path.write_bytes(data)
    assert whole(source.read("a")).seconds == 3.0


# Videos.


def test_the_wanted_frame_and_the_sound_around_it(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", seconds=4.0, gop=30)
    for frame_at in (0.0, 1.0, 2.52, 3.96):
        clip = whole(Videos(root=tmp_path, frame_at=frame_at, storage=STORAGE).read("a"))
        number = round(25 * frame_at)
        assert clip.time == pytest.approx(number / 25)
        assert clip.frame[20, 20, 0] == pytest.approx(
            2 * number, abs=4
        )  # 4: what H.264 at this size may lose
    spectrum = np.abs(np.fft.rfft(clip.audio))
    assert clip.audio.shape == (48000,) and spectrum.argmax() == 1320


def test_every_frame_is_the_one_that_a_plain_decoder_gives() -> None:
    import av

    from shards.sources.video import Window, read_video

    with av.open(str(bunny())) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    full = Storage(frame_side=10_000, seconds=5.0)
    for number in (0, 1, 37, 100):  # skipping what nothing refers to must not change what is left
        moment = read_video(bunny(), Window(0.0, 5.0, number / 25, Needs()), full)
        np.testing.assert_array_equal(moment.frame, frames[number])


def test_the_sound_of_a_part_is_that_of_the_whole_at_its_place() -> None:
    from shards.sources.video import Window, read_video

    storage = Storage(seconds=2.0, sample_rate=48000)
    entire = read_video(bunny(), Window(0.0, 5.0, 1.0, Needs()), Storage(seconds=5.0, sample_rate=48000))
    part = read_video(bunny(), Window(2.0, 2.0, 0.5, Needs()), storage)
    np.testing.assert_allclose(
        part.recording.samples, entire.recording.samples[2 * 48000 : 4 * 48000], atol=1e-6
    )


BROKEN_FILMS: dict[str, tuple[str, dict[str, Any]]] = {
    "still": ("still frames", {"still": True}),
    "no-sound": ("no sound", {"silent": True}),
    "no-picture": ("no video", {"picture": False}),
    "silent": ("silent", {"audio": np.zeros(48000)}),
    "short": ("too short", {"seconds": 0.5}),
    "nan": ("not finite", {"audio": np.full(48000, np.nan), "audio_codec": "pcm_f32le"}),
}


@pytest.mark.parametrize("kind", BROKEN_FILMS)
def test_a_broken_film_is_classified(tmp_path: Path, kind: str) -> None:
    expected, options = BROKEN_FILMS[kind]
    film(tmp_path / f"{kind}.mkv", **options)
    assert reason(Videos(root=tmp_path, storage=STORAGE, leave_out_still=True).read(kind)).startswith(
        expected + ":"
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_no_truncation_of_a_film_is_taken_for_whole(tmp_path: Path, suffix: str) -> None:
    data = film(tmp_path / f"whole.{suffix}").read_bytes()
    source = Videos(root=tmp_path, storage=STORAGE)
    audio = whole(source.read("whole")).audio
    path = tmp_path / f"whole.{suffix}"
    for size in np.random.default_rng(5).integers(0, len(data), 40):
        path.write_bytes(data[:size])
        result = source.read("whole")
        if isinstance(result, Clip):
            # Only a cut within the last half second may pass, and then what is there is right.
            assert result.seconds is not None and result.seconds >= 2.5
            there = int(2.4 * 16000)
            np.testing.assert_allclose(result.audio[:there], audio[:there], atol=1e-6)
        else:
            assert result.reason.split(":")[0] in (
                "empty",
                "truncated",
                "undecodable video",
                "no video",
                "no sound",
            )


def test_flipped_bytes_never_escape_as_anything_but_a_rejected_clip(tmp_path: Path) -> None:
    data = film(tmp_path / "whole.mp4").read_bytes()
    source = Videos(root=tmp_path, storage=STORAGE)
    source.ids()
    random = np.random.default_rng(6)
    for _ in range(30):
        spoiled = bytearray(data)
        for at in random.integers(0, len(data), 20):
            spoiled[at] = random.integers(256)
        (tmp_path / "whole.mp4").write_bytes(spoiled)
        assert isinstance(source.read("whole"), Clip | Rejection)


def test_a_folder_of_videos_with_a_table_of_parts(tmp_path: Path) -> None:
    film(tmp_path / "a/b.mp4", seconds=5.0)
    table = tmp_path / "parts.csv"
    table.write_text("id,start,label\na/b,0,dog\na/b,1.5,\na/c,0,cat\na/b,0,dog\n")
    source = Videos(root=tmp_path, csv=table, storage=STORAGE)
    assert source.ids() == ["a/b_000000", "a/b_000001.500", "a/c_000000"]
    assert reason(source.read("a/b_000000")) == "duplicate id: it stands 2 times in the source"
    assert reason(source.read("a/c_000000")).startswith("missing:")
    later = whole(source.read("a/b_000001.500"))
    assert later.time == pytest.approx(3.0, abs=0.021) and later.sources is None and later.film == "a/b"


def test_two_videos_of_one_name_are_a_duplicate(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    film(tmp_path / "a.mkv")
    assert (
        reason(Videos(root=tmp_path, storage=STORAGE).read("a"))
        == "duplicate id: it stands 2 times in the source"
    )


# VGGSound, VGG-SS, Flickr-SoundNet and their lists.

YOUTUBE = "abcdefghijk"


def test_vggsound_joins_table_list_and_files(tmp_path: Path) -> None:
    film(tmp_path / f"{YOUTUBE}_000030.mp4", seconds=6.0, gop=200)
    (tmp_path / "vggsound.csv").write_text(
        f'{YOUTUBE},30,"female speech, woman speaking",train\n{YOUTUBE},70,dog barking,train\n'
        f"{YOUTUBE},90,owl hooting,test\n"
    )
    source = VggSound(root=tmp_path, storage=STORAGE)
    assert source.ids() == [f"{YOUTUBE}_000030", f"{YOUTUBE}_000070"]
    clip = whole(source.read(f"{YOUTUBE}_000030"))
    speech = (SoundSource("female speech, woman speaking"),)
    assert clip.annotation == Annotation(clip.id, sources=speech, film=YOUTUBE, time=5.0, seconds=3.0)
    assert clip.frame[30, 30, 0] == pytest.approx(250, abs=4)  # frame 125, the one that was annotated
    assert source.read(f"{YOUTUBE}_000070") == Rejection(
        f"{YOUTUBE}_000070", "missing: there is no such file", f"{YOUTUBE}_000070.mp4"
    )
    (tmp_path / "list.txt").write_text(f"{YOUTUBE}_000090\n{YOUTUBE}_000030")
    listed = VggSound(root=tmp_path, lists=(tmp_path / "list.txt",), storage=STORAGE)
    assert listed.ids() == [f"{YOUTUBE}_000030", f"{YOUTUBE}_000090"]
    (tmp_path / "vggsound.csv").rename(tmp_path / "table.csv")
    assert whole(listed.read(f"{YOUTUBE}_000030")).sources is None
    named = dataclasses.replace(listed, csv=tmp_path / "table.csv")
    assert whole(named.read(f"{YOUTUBE}_000030")).annotation == clip.annotation
    with pytest.raises(UserError, match=r"none.csv: there is no such file"):
        dataclasses.replace(listed, csv=tmp_path / "none.csv").read(f"{YOUTUBE}_000030")


@pytest.fixture
def vggss(tmp_path: Path) -> Path:
    for id in ("x_000001", "y_000002"):
        write_frame(tmp_path / f"frames/{id}.jpg")
    write_wav(tmp_path / "audio/x_000001.wav", tone(hertz=440))
    write_wav(tmp_path / "audio/y_000002.wav", tone(hertz=880))
    boxes = [
        {"file": "x_000001", "class": "owl", "bbox": [[0.1, 0.2, 0.5, 1.02], [0.6, 0.6, 0.7, 0.7]]},
        {"file": "y_000002", "class": "dog", "bbox": [[1.1, 0.2, 1.5, 0.5], [0.5, 0.1, -2.9e16, 0.5]]},
    ]
    (tmp_path / "vggss.json").write_text(json.dumps(boxes))
    return tmp_path


def test_vggss_keeps_the_public_boxes_and_rejects_those_outside_the_frame(vggss: Path) -> None:
    source = VggSs(root=vggss, storage=STORAGE)
    clip = whole(source.read("x_000001"))
    boxes = (0.1, 0.2, 0.5, 1.02), (0.6, 0.6, 0.7, 0.7)
    assert clip.sources == (SoundSource("owl", boxes),)
    assert reason(source.read("y_000002")).startswith("box outside the frame:")


def test_an_extended_list_puts_one_clips_sound_beside_anothers_frame(vggss: Path) -> None:
    (vggss / "base.csv").write_text("x_000001")
    (vggss / "plus.csv").write_text("video,audio,label\nx_000001,y_000002,non-sounding\n")
    source = VggSs(root=vggss, lists=(vggss / "base.csv", vggss / "plus.csv"), storage=STORAGE)
    assert source.ids() == ["x_000001", "x_000001+y_000002"]
    sounding, silent = (whole(source.read(id)) for id in source.ids())
    np.testing.assert_array_equal(sounding.frame, silent.frame)
    assert silent.sources == (SoundSource(boxes=(), visible=False),) and silent.annotation.boxes == []
    assert sounding.image == silent.image == "x_000001" and sounding.sources != silent.sources
    pitches = [np.abs(np.fft.rfft(clip.audio)).argmax() / 3 for clip in (sounding, silent)]
    assert pitches == [440, 880]


XML = "<annotation><object><bbox><n>a</n><x>32</x><y>0</y><x>64</x><y>128</y></bbox></object>{}</annotation>"


def test_flickr_reads_the_boxes_of_several_annotators(tmp_path: Path) -> None:
    second = "<object><bbox><n>b</n><x>0</x><y>0</y><x>256</x><y>256</y></bbox></object>"
    assert flickr_boxes(XML.format(second).encode()) == ((0.125, 0, 0.25, 0.5), (0, 0, 1, 1))
    prepared(tmp_path, "1", "2", "3")
    (tmp_path / "1.xml").write_text(XML.format(second))
    (tmp_path / "2.xml").write_text(XML[:40])
    source = Flickr(root=tmp_path, boxes=tmp_path, storage=STORAGE)
    assert len(whole(source.read("1")).annotation.boxes or []) == 2
    assert reason(source.read("2")).startswith("unreadable XML:")
    assert source.read("3") == Rejection("3", "missing: there is no such file", "3.xml")


def test_flickr_is_read_as_it_comes(tmp_path: Path) -> None:
    """`Data/` holds pictures and recordings of several kinds beside each other, `Annotations/` the boxes."""
    import soundfile

    for id in ("1", "2", "3"):
        write_frame(tmp_path / f"Data/{id}.jpg")
        (tmp_path / f"Data/{id}.mat").write_bytes(b"features")
    write_wav(tmp_path / "Data/1.wav", tone(hertz=440))
    soundfile.write(tmp_path / "Data/2.mp3", tone(hertz=880), 16000)
    (tmp_path / "Annotations").mkdir()
    for id in ("1", "2"):
        (tmp_path / f"Annotations/{id}.xml").write_text(XML.format(""))
    source = Flickr(root=tmp_path, storage=STORAGE)
    assert source.ids() == ["1", "2", "3"]
    source.check_files()
    for id, pitch in (("1", 440), ("2", 880)):
        clip = whole(source.read(id))
        assert np.abs(np.fft.rfft(clip.audio)).argmax() / 3 == pytest.approx(pitch, abs=1)
    assert source.read("3") == Rejection("3", "missing: there is no such file", "Data/3.wav")
    (remark,) = source.remarks()
    assert "3 files are left out" in remark and ".mat" in remark
    boxed = dataclasses.replace(source, boxes=tmp_path / "Annotations")
    assert whole(boxed.read("2")).annotation.boxes == [(0.125, 0, 0.25, 0.5)]
    with pytest.raises(
        UserError, match=r"Annotations/1\.xml, .* and 4 more: cacl pack flickr --root .* reads them"
    ):
        Prepared(root=tmp_path).ids()


def test_entities_in_an_annotation_do_not_unfold() -> None:
    levels = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "ha">{levels}]><a><object><bbox>&e11;</bbox></object></a>'
    with pytest.raises(BrokenMedia, match="unreadable XML"):
        flickr_boxes(bomb.encode())


@pytest.mark.parametrize(
    "box", [[0, 0, 1], [0, 0, "a", 1], [0, float("nan"), 1, 1], [0, 0, 10**400, 1], None]
)
def test_malformed_boxes_are_refused(box: object) -> None:
    with pytest.raises(BrokenMedia, match="malformed box"):
        checked_boxes([box])


def test_a_list_cannot_lead_out_of_the_root(tmp_path: Path) -> None:
    for id in ("../secret", "/etc/passwd", "a/../../b"):
        (tmp_path / "list.txt").write_text(id)
        with pytest.raises(UserError, match="is no id"):
            read_list(tmp_path / "list.txt")


PUBLIC_CLIPS_WITHOUT_A_BOX = {
    ("M1P1xla8rg0_000000", "box outside the frame"),
    ("MKC9LvRivTM_000030", "box outside the frame"),
}


def test_the_public_lists_are_read(lists_dir: Path) -> None:
    assert len(read_list(lists_dir / "vggss_144k.txt")) == 144_000
    assert read_list(lists_dir / "flickr_test.csv")[0].id == "10000130166"
    pairs = read_list(lists_dir / "vggss_test_plus_silent.csv")
    assert len(pairs) == 5158 and not any(pair.sounding for pair in pairs)
    assert sum(pair.video == pair.audio for pair in pairs) == 379


def test_only_public_clips_without_any_box_in_the_frame_are_rejected(lists_dir: Path, tmp_path: Path) -> None:
    shutil.copy(lists_dir / "vggss.json", tmp_path)
    source = VggSs(root=tmp_path)
    rejected = set()
    for pick in read_list(lists_dir / "vggss_test.csv"):
        try:
            assert Annotation(pick.id, sources=source.sources(pick)).boxes
        except BrokenMedia as error:
            rejected.add((pick.id, str(error).partition(":")[0]))
    assert len(source.all_ids()) == 5158 and rejected == PUBLIC_CLIPS_WITHOUT_A_BOX


def test_tables_that_are_none_are_one_clear_sentence(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", seconds=1.5)
    table = tmp_path / "t.csv"
    for text, sentence in [
        ("name,start\na,0\n", "its header is 'name,start'"),
        ("id,start\na,soon\n", "row 2: 'a,soon' is not id,start"),
    ]:
        table.write_text(text)
        with pytest.raises(UserError, match=sentence):
            Videos(root=tmp_path, csv=table).ids()
        table = table.with_name("u.csv")
    (tmp_path / "vggsound.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="is not youtube_id,start_second,label,split"):
        VggSound(root=tmp_path).ids()
    with pytest.raises(
        UserError, match=r"vggss.json: there is no such file; name the annotations with --boxes"
    ):
        VggSs(root=tmp_path).ids()
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="is not a text"):
        Prepared(root=tmp_path, lists=(tmp_path / "list.bin",)).ids()


def test_every_source_is_in_the_table_under_its_own_name() -> None:
    for name in SOURCES:
        kind = source_class(name)
        assert kind.name == name
        assert all(
            field.metadata.get("help") for field in fields(kind) if field.name != "storage" and field.compare
        )


def test_csv_dialects_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, lineterminator="\r\n").writerows([["1", "202"], ["2", "0"], []])
    assert [pick.id for pick in read_list(path)] == ["1", "2"]
