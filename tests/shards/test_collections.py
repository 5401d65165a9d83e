"""Promises 1, 2 and 12 of what scenes are made of: the same instances everywhere, their origins, and broken files."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cacl.errors import UserError
from launch.jobs.pack import pack
from shards.scenes.specs import open_backgrounds, open_pictures, open_sounds
from shards.sources.generated import Generated
from shards.sources.media import BrokenMedia
from tests.shards import collected
from tests.shards.collected import RATE


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of its own, and collections that are opened anew."""
    monkeypatch.setenv("CACL_CACHE", str(tmp_path_factory.mktemp("cache")))
    for opener in (open_pictures, open_sounds, open_backgrounds):
        opener.cache_clear()


def test_a_folder_of_cut_outs_is_read_cut_to_what_can_be_seen(tmp_path: Path) -> None:
    collected.cut_out(tmp_path / "My Dog/one.png", (200, 10, 20), extent=(40, 30), border=9)
    collected.cut_out(tmp_path / "ram/large.webp", (1, 2, 3), extent=(1200, 600))
    pictures = open_pictures((str(tmp_path),))
    assert [(one.class_name, one.name) for one in pictures.instances] == [
        ("my_dog", "folder/My Dog/one.png"),  # a name that is in no table stays, plain
        ("sheep", "folder/ram/large.webp"),
    ]
    small, large = (pictures.read(one) for one in pictures.instances)
    assert small.shape == (30, 40, 4) and small.dtype == np.uint8
    assert small[15, 20].tolist() == [200, 10, 20, 255] and small[0, 0, 3] == 0
    assert large.shape == (256, 512, 4)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_recordings_of_any_kind_lose_the_silence_at_their_ends(tmp_path: Path, ending: str) -> None:
    """A lossy codec smears an edge over a block or two of it, 50 ms at 8 kHz."""
    collected.tone(tmp_path / "sounds/dog" / f"a.{ending}", 440, seconds=0.5, quiet=0.25)
    sounds = open_sounds((str(tmp_path / "sounds"),))
    for rate in (RATE, 16000):
        heard = sounds.read(sounds.instances[0], rate)
        assert heard.dtype == np.float32 and heard.ndim == 1
        assert len(heard) / rate == pytest.approx(0.5, abs=0.002 if ending in ("wav", "flac") else 0.1)
        strongest = np.argmax(np.abs(np.fft.rfft(heard))) * rate / len(heard)
        assert strongest == pytest.approx(440, abs=3)


def test_several_specs_are_one_collection_with_a_name_for_each(tmp_path: Path) -> None:
    one = collected.cut_outs(tmp_path / "one", {"dog": 2})
    two = collected.cut_outs(tmp_path / "two", {"dog": 1, "cat": 1})
    coco = "coco:" + collected.coco(tmp_path)
    pictures = open_pictures((str(one), coco, str(two)))
    names = [instance.name for instance in pictures.instances]
    assert names == sorted(names) and len(set(names)) == 8
    assert {name.partition("/")[0] for name in names} == {"folder", "folder2", "coco"}
    assert [tuple(each) for each in pictures.instances[1:3]] == [tuple(pictures.instances[k]) for k in (1, 2)]
    again = pickle.loads(pickle.dumps(pictures))
    for instance in again.instances:
        assert np.array_equal(again.read(instance), pictures.read(instance))
    moved = shutil.move(tmp_path, tmp_path.with_name("elsewhere"))
    assert str(tmp_path) not in json.dumps(pictures.identity())
    open_pictures.cache_clear()
    specs = (f"{moved}/one", f"coco:{moved}/images,{moved}/instances.json", f"{moved}/two")
    assert open_pictures(specs).identity() == pictures.identity()


def test_origins_come_from_tables_in_the_folder_or_beside_it(tmp_path: Path) -> None:
    objects = collected.cut_outs(tmp_path / "objects", {"dog": 3})
    sounds = collected.recordings(tmp_path / "sounds", {"dog": 2})
    (objects / "origins.csv").write_text("file,origin\ndog/0.png,IMG_1\ndog/1.png,IMG_1\n")
    rows = [
        {"file": "sounds/dog/0.wav", "class": "dog", "recording": "R7"},
        {"file": "objects/dog/2.png", "class": "dog", "picture": "IMG_2"},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    pictures, heard = open_pictures((str(objects),)), open_sounds((str(sounds),))
    assert [one.origin for one in pictures.instances] == ["IMG_1", "IMG_1", "IMG_2"]
    assert [one.origin for one in heard.instances] == ["R7", "folder/dog/1.wav"]
    collected.photographs(tmp_path / "photographs/more", 2)
    (tmp_path / "photographs/more/photograph1.jpg").rename(tmp_path / "photographs/IMG_1.jpg")
    backgrounds = open_backgrounds((str(tmp_path / "photographs"),))
    assert [one.origin for one in backgrounds.instances] == ["IMG_1", "photograph0"]
    assert [one.class_name for one in backgrounds.instances] == ["", ""]
    assert backgrounds.read(backgrounds.instances[0]).shape == (240, 320, 3)


def test_the_same_bytes_have_one_origin_wherever_they_lie(tmp_path: Path) -> None:
    one = collected.recordings(tmp_path / "one", {"dog": 3})
    two = collected.recordings(tmp_path / "two", {"dog": 0, "cat": 2})
    shutil.copy(one / "dog/1.wav", two / "cat/copy.wav")
    shutil.copy(one / "dog/1.wav", one / "dog/9.wav")
    (one / "origins.csv").write_text("file,origin\ndog/0.wav,R\ndog/9.wav,R\n")
    origins = {each.name: each.origin for each in open_sounds((str(one), str(two))).instances}
    joined = [f"folder/dog/{k}.wav" for k in (0, 1, 9)] + ["folder2/cat/copy.wav"]
    assert len({origins[name] for name in joined}) == 1
    assert len(set(origins.values())) == 1 + len(origins) - len(joined)


def test_esc50_is_read_as_it_is_distributed(tmp_path: Path) -> None:
    sounds = open_sounds((f"esc50:{collected.esc50(tmp_path / 'ESC-50')}",))
    assert [(one.class_name, one.name, one.origin) for one in sounds.instances] == [
        ("dog", "esc50/1-100-A-0.wav", "100"),
        ("dog", "esc50/1-100-B-0.wav", "100"),
        ("person", "esc50/2-200-A-20.wav", "200"),
        ("person", "esc50/3-300-A-20.wav", "300"),
        ("_rain", "esc50/4-400-A-10.wav", "400"),
        ("person", "esc50/5-500-A-21.wav", "500"),
    ]
    assert len(sounds.read(sounds.instances[0], RATE)) == pytest.approx(0.5 * RATE, abs=10)
    (tmp_path / "ESC-50/audio/1-100-A-0.wav").unlink()
    open_sounds.cache_clear()
    with pytest.raises(BrokenMedia, match="missing") as caught:
        sounds.read(open_sounds((f"esc50:{tmp_path / 'ESC-50'}",)).instances[0], RATE)
    assert caught.value.file == "esc50/1-100-A-0.wav"


def test_packed_clips_give_their_sounds_by_class(tmp_path: Path) -> None:
    pack(Generated(clips=6), tmp_path / "packed", shard_size=4)
    sounds = open_sounds((f"vggsound:{tmp_path / 'packed'}",))
    assert [one.name for one in sounds.instances] == [f"vggsound/{index:09d}" for index in range(6)]
    assert all(one.class_name and one.origin.startswith("train-") for one in sounds.instances)
    heard = sounds.read(sounds.instances[3], 16000)
    assert 2.5 < len(heard) / 16000 <= 3.0  # noise hides where the sound is quiet
    assert str(tmp_path) not in json.dumps(sounds.identity())


def test_a_broken_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    objects = collected.cut_outs(tmp_path / "objects", {"dog": 3})
    (objects / "dog/0.png").write_bytes((objects / "dog/0.png").read_bytes()[:60])
    (objects / "dog/1.png").write_bytes(b"")
    Image.new("RGBA", (30, 30)).save(objects / "dog/2.png")
    pictures = open_pictures((str(objects),))
    assert len(pictures.instances) == 3  # fixed before anything is decoded
    for instance, why in zip(pictures.instances, ["undecodable", "empty", "transparent"], strict=True):
        with pytest.raises(BrokenMedia, match=why) as caught:
            pictures.read(instance)
        assert caught.value.file == instance.name
    silent = tmp_path / "sounds/dog/0.wav"
    silent.parent.mkdir(parents=True)
    soundfile.write(silent, np.zeros(RATE), RATE)
    sounds = open_sounds((str(tmp_path / "sounds"),))
    with pytest.raises(BrokenMedia, match="silent"):
        sounds.read(sounds.instances[0], RATE)


def bad_inputs() -> dict[str, tuple[str, str]]:
    """What is named (under a folder) and the words of the one sentence that answers."""
    return {
        "nowhere": ("--objects", "is not a folder"),
        "flat": ("--objects", "holds no class"),
        "opaque": ("--objects", "no alpha channel"),
        "coco:images": ("--objects", "coco:IMAGES,FILE"),
        "coco:flat,none.json": ("--objects", "there is no such file"),
        "coco:flat,broken.json": ("--objects", "is not an annotation file of COCO"),
        "malformed": ("--objects", "is not a table of file,origin"),
        "esc50:flat": ("--sounds", "there is no such file"),
        "esc50:other": ("--sounds", "is not the table of ESC-50"),
        "vggsound:flat": ("--sounds", "there is no manifest"),
        "empty": ("--backgrounds", "holds no photographs"),
    }


@pytest.mark.parametrize("spec", bad_inputs())
def test_bad_input_gets_one_sentence_that_names_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.chdir(tmp_path)
    collected.cut_out(tmp_path / "flat/dog.png", (1, 2, 3))
    collected.cut_outs(tmp_path / "opaque", {"dog": 1})
    Image.new("RGB", (30, 30)).save(tmp_path / "opaque/dog/photo.png")
    (tmp_path / "broken.json").write_text('{"images": [], "annotations": [{"id": 1}]}')
    collected.cut_outs(tmp_path / "malformed", {"dog": 1})
    (tmp_path / "malformed/origins.csv").write_text("dog/0.png,IMG\n")
    (tmp_path / "other/meta").mkdir(parents=True)
    (tmp_path / "other/meta/esc50.csv").write_text("file,class\n")
    (tmp_path / "empty").mkdir()
    option, words = bad_inputs()[spec]
    opener = {"--objects": open_pictures, "--sounds": open_sounds, "--backgrounds": open_backgrounds}[option]
    with pytest.raises(UserError) as caught:
        opener((spec,))
    message = str(caught.value)
    assert words in message and "\n" not in message
    assert spec.rpartition(":")[2].partition(",")[0] in message


@pytest.mark.parametrize("opener", [open_pictures, open_sounds, open_backgrounds])
def test_varied_asks_for_its_folder_and_names_what_needs_none(
    opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CACL_VARIED_DIR", raising=False)
    with pytest.raises(UserError, match=r"varied: CACL_VARIED_DIR is not set: .*`debian`"):
        opener(("varied",))
