"""IS3 and VPO: the sounds of one picture are clips that share it (promise 14). Of IS3 there are real pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacl.annotation import SoundSource
from cacl.errors import UserError
from launch.jobs.pack import pack
from launch.main import main
from shards.sources.interactive import Is3, Vpo
from shards.sources.media import read_mask
from shards.store import open_store
from shards.verify import verify
from tests.shards.sets import (
    LONG,
    SIDE,
    STORAGE,
    hears,
    interactive,
    mask,
    picture,
    refused,
    table,
    whole,
)


def test_the_two_sounds_of_a_generated_picture_are_two_clips(tmp_path: Path) -> None:
    """One is heard, the other one is visible and silent; both say which picture they share."""
    root = interactive(tmp_path, "cat_dog_7_cat", "cat_dog_7_dog", "fox_subwaytrain_8_subway")
    boxes = {
        "cat_dog_7_cat": [0.0, 0.0, 112.0, 224.0],
        "cat_dog_7_dog": [112.0, 56.0, 224.0, 224.0],
        "fox_subwaytrain_8_subway": [0.0, 0.0, 0.0, 0.0],
    }
    table(root / "IS3_annotation.json", **boxes)
    mask(root / "gt_segmentation/cat_dog_7_cat.jpg", (0, 0, 47, 95))
    mask(root / "gt_segmentation/cat_dog_7_dog.jpg", (48, 24, 95, 95))
    mask(root / "gt_segmentation/fox_subwaytrain_8_subway.jpg", None)
    source = Is3(root=root, storage=LONG)
    assert source.ids() == sorted(boxes)
    cat, dog, subway = (whole(source.read(id)) for id in source.ids())
    left, right = ((0.0, 0.0, 0.5, 1.0),), ((0.5, 0.25, 1.0, 1.0),)
    assert cat.sources == (SoundSource("cat", left), SoundSource("dog", right, audible=False))
    assert dog.sources == (SoundSource("dog", right), SoundSource("cat", left, audible=False))
    assert subway.sources == (SoundSource("subway", (), visible=False),), "no box: it is not in view"
    assert [clip.image for clip in (cat, dog, subway)] == ["cat_dog_7", "cat_dog_7", "fox_subwaytrain_8"]
    assert {clip.film for clip in (cat, dog, subway)} == {None}
    assert cat.annotation.boxes == [*left] and dog.annotation.boxes == [*right]
    edge = np.zeros((SIDE, SIDE), bool)
    edge[:, : SIDE // 2] = True
    np.testing.assert_array_equal(cat.annotation.mask, edge)
    assert {source.group("cat_dog_7_cat"), source.group("cat_dog_7_dog")} == {"cat_dog_7"}
    assert hears(cat, 5.0) == pytest.approx(5.0, abs=0.05), "the middle three seconds are 3.5 to 6.5 s"


def test_a_class_of_the_table_counts_before_the_name(tmp_path: Path) -> None:
    root = interactive(tmp_path, "a_b_1_a")
    note = {"image": "a_b_1_a.jpg", "audio": "a_b_1_a.wav", "bbox": [0, 0, 224, 112], "category": "Alligator"}
    (root / "IS3_annotation.json").write_text(json.dumps([note]))
    heard, other = whole(Is3(root=root, storage=LONG).read("a_b_1_a")).sources or ()
    assert heard == SoundSource("Alligator", ((0, 0, 1, 0.5),))
    assert other == SoundSource("b", audible=False), "the other one's name is all that is known"


def test_pictures_and_sounds_alone_are_read_too(tmp_path: Path) -> None:
    """Beside each other at the root or in folders; then boxes are not known, and so neither is the truth."""
    names = "a_a_1_a", "cat_dog_7_cat", "cat_dog_7_dog"
    for folders in ("", ""), ("images", "audio_waw"), ("visual_frames", "audio_wav"):
        root = interactive(tmp_path / f"x{folders[0]}", *names, folders=folders)
        source = Is3(root=root, storage=LONG)
        assert source.ids() == [*names]
        (alone, cat, _) = (whole(source.read(id)) for id in source.ids())
        assert cat.sources == (SoundSource("cat"), SoundSource("dog", audible=False))
        assert cat.annotation.boxes is None and alone.sources == (SoundSource("a"),)


def test_masks_alone_have_boxes_around_them(tmp_path: Path) -> None:
    root = interactive(tmp_path, "cat_dog_7_cat")
    mask(root / "gt_masks/cat_dog_7_cat.jpg", (24, 0, 71, 95))
    clip = whole(Is3(root=root, storage=LONG).read("cat_dog_7_cat"))
    assert clip.sources == (SoundSource("cat", ((0.25, 0, 0.75, 1),)), SoundSource("dog", audible=False))


def test_vpo_is_read_as_it_is_tabled(tmp_path: Path) -> None:
    """Of the parts of a picture one sounds; classes stand nowhere, and boxes of squares fit any picture."""
    names = "000000000007_11", "000000000007_12"
    root = interactive(tmp_path, *names, folders=("visual_frames", "audio_wav"))
    for name, box in zip(names, ((0, 0, 31, 47), (64, 0, 95, 47)), strict=True):
        picture(root / f"visual_frames/{name}.jpg", (96, 48))
        mask(root / f"gray_masks/{name}.jpg", box, (96, 48))
    table(root / "vpo_ms_bbox.json", **{names[0]: [0, 0, 74, 224], names[1]: [149, 0, 224, 224]})
    clips = [whole(Vpo(root=root, storage=STORAGE).read(name)) for name in names]
    assert [clip.image for clip in clips] == ["000000000007"] * 2
    for clip, (x0, x1) in zip(clips, ((0, 74 / 224), (149 / 224, 1)), strict=True):
        heard, other = clip.sources or ()
        assert (heard.class_name, heard.audible, other.audible) == ("", True, False)
        assert heard.boxes == ((x0, 0, x1, 1),) and clip.annotation.boxes == [(x0, 0, x1, 1)]
        assert heard.mask is not None and heard.mask.shape == (48, 96)
        assert heard.mask[:, round(x0 * 96) : round(x1 * 96)].mean() > 0.95 and heard.mask.mean() < 0.36


SLIPS: dict[str, tuple[Any, str]] = {
    "no list": ({"a": 1}, "is no list of annotations"),
    "no image": ([{"gt_box": [0, 0, 1, 1]}], r"annotation 0: image: expected a path .*, got None"),
    "no object": ([{"image": "a/cat.jpg", "gt_box": [0, 0, 1, 1]}], r"annotation 0: image: expected a path"),
    "three edges": ([{"image": "a_1_b.jpg", "gt_box": [0, 0, 1]}], "annotation 0: gt_box: expected four num"),
    "the table of masks": ([{"image": "a_1_b.jpg", "gt_box": "/m/a.jpg"}], "gt_box: expected four numbers, got '/m"),
    "twice": ([{"image": "a_1_b.jpg", "gt_box": [0, 0, 1, 1]}] * 2, "annotation 1: image: 'a_1_b' stands there tw"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLIPS)
def test_a_malformed_table_is_one_sentence(tmp_path: Path, kind: str) -> None:
    slip, sentence = SLIPS[kind]
    path = interactive(tmp_path, "cat_dog_7_cat") / "IS3_annotation.json"
    path.write_text(json.dumps(slip))
    with pytest.raises(UserError, match=f"^{path}: .*{sentence}") as error:
        Is3(root=tmp_path).ids()
    assert "\n" not in str(error.value) and "; " in str(error.value), "it says what to do"


def test_broken_clips_of_a_picture_are_counted_and_never_replaced(tmp_path: Path) -> None:
    root = interactive(tmp_path, "cat_dog_7_cat", "cat_dog_7_dog")
    table(
        root / "IS3_annotation.json",
        cat_dog_7_cat=[0, 0, 9, 9],
        cat_dog_7_dog=[9, 9, 900, 900],
        x_y_z=[0, 0, 9, 9],
    )
    (root / "audio_wav/cat_dog_7_dog.wav").write_bytes(b"no sound")
    source = Is3(root=root, storage=LONG)
    assert refused(source.read("cat_dog_7_cat")).startswith(": box in pixels"), "the other one's"
    assert refused(source.read("x_y_z")) == "images/x_y_z.jpg: missing: there is no such file"
    table(root / "IS3_annotation.json", cat_dog_7_cat=[0, 0, 9, 9], cat_dog_7_dog=[9, 9, 90, 90])
    other = Is3(root=root, storage=LONG, boxes=root / "IS3_annotation.json")
    (root / "list.txt").write_text("cat_dog_7_dog\nnobody_knows_me\n")
    listed = Is3(root=root, storage=LONG, boxes=root / "IS3_annotation.json", lists=(root / "list.txt",))
    assert refused(listed.read("nobody_knows_me")).startswith(": missing: the list names it")
    assert refused(other.read("cat_dog_7_dog")).startswith("audio_wav/cat_dog_7_dog.wav: undecodable sound")
    manifest = pack(other, tmp_path / "out", max_rejected=0.5)
    assert manifest is not None and manifest.shards[0].missing == (1,)


def test_a_jpegs_almost_black_is_black(tmp_path: Path) -> None:
    """A sharp edge rings in a JPEG: pixels of 1 to 20 levels all around it."""
    drawn = np.asarray(Image.open(mask(tmp_path / "a.png", (13, 22, 55, 61)))) > 0
    Image.open(tmp_path / "a.png").save(tmp_path / "a.jpg", quality=75)
    assert ((np.asarray(Image.open(tmp_path / "a.jpg")) > 0) != drawn).any(), "the file has such pixels"
    np.testing.assert_array_equal(read_mask(tmp_path / "a.jpg"), drawn)
    mask(tmp_path / "empty.jpg", None)
    assert not read_mask(tmp_path / "empty.jpg").any()


def test_all_real_pairs_of_is3_are_packed(real_dir: Path, tmp_path: Path) -> None:
    """28 of them, without a table: class from the name, sounds of 1.2 to 10 seconds."""
    words = ["--root", str(real_dir / "is3"), "--out", str(tmp_path / "out"), "--max-rejected", "0"]
    assert main(["pack", "is3", *words, "--frame-side", "64", "--workers", "1"]) == 0
    store = open_store(tmp_path / "out")
    notes = [store.annotation(int(index)) for index in store.indices]
    assert len(notes) == 28 and list(verify(tmp_path / "out", 1)) == []
    for note in notes:
        heard, other = note.sources or ()
        assert note.id.endswith(f"_{note.class_name}") and note.image == note.id.rpartition("_")[0]
        assert {heard.class_name, other.class_name} == set(note.id.split("_")[:2]) and not other.audible
    assert sum(note.seconds is not None and note.seconds < 2 for note in notes) == 5
