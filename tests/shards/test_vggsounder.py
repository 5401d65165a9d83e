"""VGGSounder: several labels a clip, heard or seen or both. Boxes that people drew stay the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cacl.annotation import SoundSource
from cacl.errors import UserError
from launch.main import main
from shards.sources.lists import read_rows
from shards.sources.vggsound import VggSound
from shards.sources.vggsounder import add_labels, read_vggsounder
from shards.sources.vggss import VggSs
from shards.store import open_store
from shards.verify import verify
from tests.shards.films import film
from tests.shards.sets import STORAGE, whole

CLIP, OTHER, UNKNOWN = "abcdefghijk_000030", "bbcdefghijk_000000", "cbcdefghijk_000000"
TABLE = f"""video_id,label,modality,background_music,static_image,voice_over
{CLIP},"child speech, kid speaking",A,True,False,True
{CLIP},dog barking,AV,True,False,True
{CLIP},cat purring,V,True,False,True
{OTHER},owl hooting,V,False,False,False
"""
SPEECH = SoundSource("child speech, kid speaking", (), visible=False)
DOG, CAT = SoundSource("dog barking"), SoundSource("cat purring", audible=False)
OWL = SoundSource("owl hooting")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rows = [f"{id[:11]},{int(id[12:])},{label},test" for id, label in
            ((CLIP, "dog barking"), (OTHER, "owl hooting"), (UNKNOWN, "owl hooting"))]  # fmt: skip
    (tmp_path / "vggsound.csv").write_text("\n".join(rows))
    (tmp_path / "vggsounder.csv").write_text(TABLE)
    for id in (CLIP, OTHER, UNKNOWN):
        film(tmp_path / f"{id}.mp4", seconds=6.0)
    return tmp_path


def test_labels_of_a_clip_without_boxes_are_its_sources(raw: Path) -> None:
    source = VggSound(root=raw, split="test", vggsounder=raw / "vggsounder.csv", storage=STORAGE)
    clip, other, unknown = (whole(source.read(id)) for id in (CLIP, OTHER, UNKNOWN))
    assert clip.sources == (DOG, SPEECH, CAT), "the clip's own class comes first"
    assert clip.tags == ("background_music", "voice_over") and clip.annotation.class_name == "dog barking"
    assert other.sources == (OWL,) and other.tags == (), "where nothing is heard, the own class still is"
    assert unknown.sources == (OWL,) and unknown.tags == ()
    assert source.remarks() == [f"--vggsounder {raw}/vggsounder.csv: has labels of 2 of 3 clips"]
    plain = VggSound(root=raw, split="test", storage=STORAGE)
    assert source.parameters().keys() - plain.parameters().keys() == set(), (
        "what was begun can be gone on with"
    )


def test_boxes_that_people_drew_stay_the_truth(raw: Path) -> None:
    box = (0.1, 0.2, 0.5, 0.75)
    (raw / "vggss.json").write_text(json.dumps([{"file": CLIP, "class": "dog barking", "bbox": [box]}]))
    source = VggSs(root=raw, vggsounder=raw / "vggsounder.csv", storage=STORAGE)
    note = whole(source.read(CLIP)).annotation
    assert note.sources is not None and note.sources[0] == SoundSource("dog barking", (box,))
    aside = [(one.class_name, one.audible, one.visible) for one in note.sources[1:] if one.aside]
    assert aside == [("child speech, kid speaking", True, False), ("dog barking", True, True),
                     ("cat purring", False, True)]  # fmt: skip
    assert note.boxes == [box] and note.class_name == "dog barking"
    plain = whole(VggSs(root=raw, storage=STORAGE).read(CLIP)).annotation
    assert (plain.boxes, plain.heard) == (note.boxes, note.heard), "the option changes no number"


def test_a_class_that_nobody_else_heard_gives_way(raw: Path) -> None:
    """A re-annotation says otherwise where it hears something; where it hears nothing the class is kept."""
    said = read_vggsounder(raw / "vggsounder.csv")
    assert add_labels((OWL,), said[CLIP]) == (SPEECH, DOG, CAT)
    assert add_labels((SoundSource("wind"),), said[OTHER]) == (
        SoundSource("wind"), SoundSource("owl hooting", audible=False))  # fmt: skip
    assert add_labels(None, said[OTHER]) == (SoundSource("owl hooting", audible=False),)


HEAD = "video_id,label,modality"
SLIPS = {
    "another table": ("id,start,label\n", "begins with 'id,start,label', not with video_id,label,modality"),
    "nothing": ("", "begins with '', not with"),
    "a cell too many": (f"{HEAD}\na,b,A,True\n", "row 2: 'a,b,A,True' is not video_id,label,modality"),
    "a modality": (f"{HEAD}\na,b,VA\n", "row 2: 'a,b,VA' is not"),
    "a flag": (f"{HEAD},static_image\na,b,A,yes\n", "row 2: 'a,b,A,yes' is not"),
}


@pytest.mark.parametrize("kind", SLIPS)
def test_a_table_that_is_none_is_one_sentence(raw: Path, kind: str) -> None:
    text, sentence = SLIPS[kind]
    (raw / "other.csv").write_text(text)
    with pytest.raises(UserError, match=rf"other\.csv: {sentence}.*; give the csv of VGGSounder"):
        VggSound(root=raw, split="test", vggsounder=raw / "other.csv").ids()


def test_a_table_of_other_clips_is_refused(raw: Path) -> None:
    (raw / "other.csv").write_text(f"{HEAD}\nx,b,A\n")
    with pytest.raises(UserError, match=r"names no clip of the source, such as '.*\(--split test\)"):
        VggSound(root=raw, split="test", vggsounder=raw / "other.csv").ids()


def test_the_real_table_says_what_was_counted_in_it(real_dir: Path, lists_dir: Path) -> None:
    """Release 1.0.0: counted with csv and json alone."""
    path = real_dir / "lists/vggsounder.csv"
    said = read_vggsounder(path)
    assert len(said) == 12_014 and sum(len(one.labels) for one in said.values()) == len(read_rows(path)) - 1
    assert sum(one.audible and one.visible for clip in said.values() for one in clip.labels) == 18_377
    drawn = {row["file"]: row["class"] for row in json.loads((lists_dir / "vggss.json").read_text())}
    found = {id: clip for id, clip in said.items() if id in drawn}
    assert len(found) == 4401
    assert sum("static_image" in clip.flags for clip in found.values()) == 236
    own = [one for id, clip in found.items() for one in clip.labels if one.class_name == drawn[id]]
    assert sum(one.audible and not one.visible for one in own) == 542


def test_real_clips_of_vgg_ss_keep_their_boxes_and_gain_labels(
    real_dir: Path, lists_dir: Path, tmp_path: Path
) -> None:
    films = sorted(path.stem for path in (real_dir / "vggss").glob("*.mp4"))[:6]
    (tmp_path / "ids.txt").write_text("\n".join(films))
    table = real_dir / "lists/vggsounder.csv"
    words = ["--root", str(real_dir / "vggss"), "--boxes", str(lists_dir / "vggss.json")]
    words += ["--list", str(tmp_path / "ids.txt"), "--frame-side", "64", "--workers", "1"]
    for name, more in ("plain", []), ("labeled", ["--vggsounder", str(table)]):
        assert main(["pack", "vggss", *words, *more, "--out", str(tmp_path / name)]) == 0
    assert list(verify(tmp_path / "labeled", 1)) == []
    plain, labeled = open_store(tmp_path / "plain"), open_store(tmp_path / "labeled")
    gained = 0
    for index in map(int, labeled.indices):
        before, after = plain.annotation(index), labeled.annotation(index)
        assert after.heard == before.heard and after.boxes == before.boxes and after.boxes
        gained += len(after.sources or ()) > len(before.sources or ())
    assert gained == sum(id in read_vggsounder(table) for id in films) > 2
