"""`--boxes FILE` of every source of files: whose clips, in which form, and what a slip of the pen comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from cacl.annotation import SoundSource
from cacl.errors import UserError
from launch.main import main
from shards.clip import Clip, Rejection, Storage
from shards.sources.boxes import checked_boxes
from shards.sources.files import FileSource
from shards.sources.flickr import Flickr
from shards.sources.media import BrokenMedia
from shards.sources.prepared import Prepared
from shards.sources.vggsound import VggSound
from shards.sources.vggss import VggSs
from shards.sources.videos import Videos
from shards.store import open_store
from tests.shards.films import film

STORAGE = Storage(frame_side=64, seconds=1.0)
BOX = (0.1, 0.2, 0.5, 0.75)
YOUTUBE = "abcdefghijk"


def prepared(root: Path, *ids: str) -> Path:
    """Frames of 128 × 96 and sounds of a second."""
    for folder in ("frames", "audio"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, id in enumerate(ids):
        Image.new("RGB", (128, 96), (40 * number, 90, 200)).save(root / f"frames/{id}.jpg")
        sound = np.random.default_rng(number).uniform(-0.3, 0.3, 16000)
        soundfile.write(root / f"audio/{id}.wav", sound, 16000)
    return root


def boxes_file(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(entries))
    return path


def entry(file: str, **fields: Any) -> dict[str, Any]:
    return {"file": file, "class": "dog", "bbox": [BOX], **fields}


def whole(result: Clip | Rejection) -> Clip:
    assert isinstance(result, Clip), result
    return result


def test_every_source_of_files_takes_boxes(tmp_path: Path) -> None:
    film(tmp_path / f"films/{YOUTUBE}_000030.mp4", seconds=6.0)
    prepared(tmp_path, f"{YOUTUBE}_000030")
    (tmp_path / "films/vggsound.csv").write_text(f"{YOUTUBE},30,owl hooting,train\n")
    boxes = boxes_file(tmp_path, entry(f"{YOUTUBE}_000030"))
    films: list[FileSource] = [
        kind(root=tmp_path / "films", boxes=boxes) for kind in (Videos, VggSound, VggSs)
    ]
    frames: list[FileSource] = [kind(root=tmp_path, boxes=boxes) for kind in (Prepared, VggSs, Flickr)]
    for source in films + frames:
        (id,) = source.ids()
        clip = whole(replace(source, storage=STORAGE).read(id))
        assert clip.sources == (SoundSource("dog", (BOX,)),) and clip.film == YOUTUBE, source
        assert not any("--boxes" in remark for remark in source.remarks())
        assert "boxes" not in source.parameters()


def test_parts_of_a_film_are_named_as_cacl_names_them(tmp_path: Path) -> None:
    film(tmp_path / "a/b.mp4", seconds=5.0)
    table = tmp_path / "parts.csv"
    table.write_text("id,start,label\na/b,0,dog\na/b,1.5,cat\na/b,2,\n")
    boxes = boxes_file(tmp_path, {"file": "a/b_000001.500", "bbox": [BOX]}, entry("a/b"))
    source = Videos(root=tmp_path, csv=table, boxes=boxes, storage=STORAGE)
    first, second, third = (whole(source.read(id)) for id in source.ids())
    assert first.sources == (SoundSource("dog"),), "boxes that nobody drew are not known"
    assert second.sources == (SoundSource("cat", (BOX,)),), "the CSV says what the file does not"
    assert third.sources is None and {first.film, second.film, third.film} == {"a/b"}
    assert source.remarks() == [f"--boxes {boxes}: 1 of 2 entries name no clip of the source, such as 'a/b'"]


def test_entries_may_hold_sources_with_masks(tmp_path: Path) -> None:
    """The form of version 2. A mask is of the frame's file or of the stored frame, in whole pixels of it."""
    prepared(tmp_path, "a")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((96, 128), np.uint8)
    mask[48:, :64] = 1
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    Image.fromarray(mask[::2, ::2]).save(tmp_path / "masks/half.png")
    Image.fromarray(mask[:, :96]).save(tmp_path / "masks/square.png")
    dog: dict[str, Any] = {"class_name": "dog", "boxes": [BOX], "mask": "masks/a.png"}
    cat = {"class_name": "cat", "audible": False, "mask": "masks/half.png"}
    rain = {"class_name": "rain", "boxes": []}
    boxes = boxes_file(tmp_path, {"file": "a", "sources": [dog, cat, rain]})
    source = Prepared(root=tmp_path, boxes=boxes, storage=replace(STORAGE, frame_side=48))
    found = whole(source.read("a")).sources or ()
    assert found == (
        SoundSource("dog", (BOX,)),
        SoundSource("cat", audible=False),
        SoundSource("rain", boxes=(), visible=False),
    )
    for one in found[:2]:
        np.testing.assert_array_equal(one.mask, mask[::2, ::2])
    boxes_file(tmp_path, {"file": "a", "sources": [dog | {"mask": "masks/square.png"}]})
    other = replace(source, boxes=boxes.rename(tmp_path / "other.json"))
    rejected = other.read("a")
    assert rejected == Rejection("a", "mask of another form: 96×96 pixels on a frame of 64×48")
    boxes_file(tmp_path, {"file": "a", "sources": [dog | {"mask": "masks/none.png"}]})
    missing = replace(source, boxes=boxes.rename(tmp_path / "missing.json")).read("a")
    assert missing == Rejection("a", "missing: there is no such file", "masks/none.png")


SLIPS = {
    "pixels": (entry("a", bbox=[[10, 20, 60, 70]]), "a: box in pixels: .* is not in 0..1 of width and height"),
    "a corner at 0": (entry("a", bbox=[[0, 0, 60, 70]]), "a: box in pixels"),
    "below the frame": (entry("a", bbox=[[1.1, 0, 1.3, 1]]), "a: box outside the frame"),
    "three edges": (entry("a", bbox=[[0, 0, 1]]), "a: malformed box"),
    "no boxes at all": (entry("a", bbox=None), "a: no box: there must be one at least"),
    "one box bare": (entry("a", bbox=list(BOX)), "a: malformed box"),
    "sources in pixels": ({"file": "a", "sources": [{"boxes": [[0, 0, 60, 70]]}]}, "a: box in pixels"),
    "sources misspelled": ({"file": "a", "sources": [{"box": [BOX]}]}, r"a: .*sources\[0\]: has no 'box'"),
    "a source's sound": ({"file": "a", "sources": [{"audio": "a.wav"}]}, "a: .*audio is not read"),
    "a mask elsewhere": ({"file": "a", "sources": [{"mask": "../a.png"}]}, "a: .*a mask is a path below"),
    "sources that are none": ({"file": "a", "sources": 3}, "a: .*sources: expected a list"),
    "neither": ({"file": "a", "class": "dog"}, "is not a list of file, class and bbox, or of file and sources"),
    "no name": ({"class": "dog", "bbox": [BOX]}, "is not a list of file, class and bbox"),
    "another clip's name": (entry("b"), "no entry names a clip of the source; their names are such as 'a'"),
    "a name that leads away": (entry("../a"), "a file stands there twice or is no name"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLIPS)
def test_a_slip_of_the_pen_ends_packing_before_it_begins(tmp_path: Path, kind: str) -> None:
    """Boxes in pixels, above all: a frame of which only the corner at 0 counts would be all box."""
    slip, sentence = SLIPS[kind]
    boxes = boxes_file(prepared(tmp_path, "a"), slip)
    with pytest.raises(UserError, match=f"{boxes}: {sentence}") as error:
        Prepared(root=tmp_path, boxes=boxes).ids()
    assert "\n" not in str(error.value)


def test_malformed_boxes_of_clips_that_are_not_here_do_not_matter(tmp_path: Path) -> None:
    """The public list of VGG-SS has two clips whose boxes have no pixel."""
    boxes = boxes_file(prepared(tmp_path, "a"), entry("a"), entry("b", bbox=[[0.2, 1.0, 0.7, 1.0]]))
    assert Prepared(root=tmp_path, boxes=boxes).ids() == ["a"]


def test_files_that_hold_no_boxes_are_one_sentence(tmp_path: Path) -> None:
    prepared(tmp_path, "a")
    for number, text in enumerate((b"", b"{}x", b"[3]", b"3", b"[" * 100_000, b"\xff\xfe")):
        path = tmp_path / f"{number}.json"
        path.write_bytes(text)
        with pytest.raises(UserError, match=f"{path}: is not a list of file, class and bbox"):
            Prepared(root=tmp_path, boxes=path).ids()
    with pytest.raises(UserError, match="there is no such file; name the annotations with --boxes"):
        Prepared(root=tmp_path, boxes=tmp_path).ids()


def test_the_public_sets_stay_strict(tmp_path: Path) -> None:
    """Their protocols need boxes of every clip: one without is rejected, and the others are packed."""
    prepared(tmp_path, "a", "b", "c")
    (tmp_path / "list.txt").write_text("a\nb\nc\n")
    boxes = boxes_file(tmp_path, entry("a"), entry("c", bbox=[[0, 0, 60, 70]]))
    for kind in (VggSs, Flickr):
        source = kind(root=tmp_path, boxes=boxes, lists=(tmp_path / "list.txt",), storage=STORAGE)
        assert source.ids() == ["a", "b", "c"] and not source.remarks()
        assert whole(source.read("a")).annotation.boxes == [BOX]
        assert source.read("b") == Rejection("b", "missing: boxes.json has no boxes for it")
        rejected = source.read("c")
        assert isinstance(rejected, Rejection) and rejected.reason.startswith("box in pixels")


def test_a_pair_has_boxes_of_its_own_or_its_frames(tmp_path: Path) -> None:
    prepared(tmp_path, "a", "b")
    (tmp_path / "pairs.csv").write_text(
        "video,audio,label\na,b,sounding\nb,a,non-sounding\na,a,non-sounding\n"
    )
    boxes = boxes_file(tmp_path, entry("a"), entry("b"), entry("a+a", bbox=[]))
    source = Prepared(root=tmp_path, boxes=boxes, lists=(tmp_path / "pairs.csv",), storage=STORAGE)
    shared, own, silent = (whole(source.read(id)) for id in ("a+b", "a+a", "b+a"))
    assert shared.sources == (SoundSource("dog", (BOX,)),)
    assert own.sources == (SoundSource("dog", (), visible=False),)
    assert silent.sources == (SoundSource(boxes=(), visible=False),), "b's boxes are of b's own sound"
    assert (shared.image, own.image, silent.image) == ("a", "a", None)


def test_packed_boxes_are_measured_and_a_misspelled_clip_is_said(tmp_path: Path, capsys) -> None:
    boxes = boxes_file(prepared(tmp_path / "mine", "a", "b"), entry("a"), entry("bb"))
    words = ["--root", str(tmp_path / "mine"), "--boxes", str(boxes), "--out", str(tmp_path / "out")]
    assert main(["pack", "prepared", *words, "--workers", "1"]) == 0
    assert capsys.readouterr().out.endswith(
        f"{boxes}: 1 of 2 entries name no clip of the source, such as 'bb'\n"
    )
    notes = [open_store(tmp_path / "out").annotation(k) for k in range(2)]
    assert [note.boxes for note in notes] == [[BOX], None]


def test_edges_a_little_out_of_the_frame_are_kept() -> None:
    """As of VGG-SS: 1.02 is a hand that slipped, 2.1 a pixel."""
    assert checked_boxes([[-0.1, 0, 1.02, 1]]) == ((-0.1, 0, 1.02, 1),)
    assert checked_boxes([[0.5, 0.5, -2.9e16, 1], [0, 0, 1, 1]])[0][2] == -2.9e16
    with pytest.raises(BrokenMedia, match="box in pixels"):
        checked_boxes([[0, 0, 1, 1], [0, 0, 2.1, 1]])
