"""AVSBench S4 and MS3: the seconds of a film are clips that share it, each with its mask (promise 14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.sources.avsbench import AvsBench
from tests.shards.sets import (
    LONG,
    STORAGE,
    hears,
    mask,
    picture,
    refused,
    s4,
    told,
    whole,
)


@pytest.fixture
def single(tmp_path: Path) -> Path:
    (tmp_path / "s4_data").mkdir(parents=True)
    return s4(tmp_path)


def test_each_second_of_a_film_is_a_clip_with_its_own_mask_and_sound(single: Path) -> None:
    source = AvsBench(root=single, storage=STORAGE)
    assert source.ids() == [f"abcdefghijk_{number}" for number in range(1, 6)]
    clips = [whole(source.read(id)) for id in source.ids()]
    assert {clip.film for clip in clips} == {"abcdefghijk"} and {clip.image for clip in clips} == {None}
    assert [clip.time for clip in clips] == [0.9375, 1.9375, 2.9375, 3.9375, 4.9375]
    begins = [0.0, 0.4375, 1.4375, 2.0, 2.0]  # three seconds around the frame, all within the film
    for number, (clip, begin) in enumerate(zip(clips, begins, strict=True), start=1):
        assert hears(clip, 0.5) == pytest.approx(begin + 0.5, abs=0.05)
        assert clip.frame[0, 0, 0] == pytest.approx(40 * number, abs=2) and clip.seconds == 3.0
        (heard,) = clip.sources or ()
        assert heard == SoundSource("dog_barking", ((0, number / 8, 0.5, 1),))
        assert heard.mask is not None and heard.mask[8 * number :, :32].all()
        assert heard.mask.sum() == (64 - 8 * number) * 32
    assert {source.group(id) for id in source.ids()} == {"abcdefghijk"}


def test_the_training_films_have_one_mask_each(single: Path) -> None:
    assert AvsBench(root=single, split="train").ids() == ["bbcdefghijk_1"]
    assert len(AvsBench(root=single, split="all").ids()) == 6
    (single / "list.txt").write_text("bbcdefghijk_1\nbbcdefghijk_2\n")
    source = AvsBench(root=single, storage=STORAGE, lists=(single / "list.txt",))
    assert whole(source.read("bbcdefghijk_1")).film == "bbcdefghijk"
    assert "the table has no such frame with a mask" in refused(source.read("bbcdefghijk_2"))


def test_all_frames_may_have_the_middle_of_their_film(single: Path) -> None:
    """As SSLalignment's evaluator hears them: 1 to 4 s of 5 s."""
    source = AvsBench(root=single, sound="film", storage=STORAGE)
    for id in source.ids():
        assert hears(whole(source.read(id)), 0.5) == pytest.approx(1.5, abs=0.05)
    assert source.parameters() != AvsBench(root=single, storage=STORAGE).parameters()
    longer = whole(AvsBench(root=single, storage=LONG).read("abcdefghijk_1"))
    assert longer.seconds == 5.0 and hears(longer, 2.5) == pytest.approx(2.5, abs=0.05)


def test_a_mask_without_a_pixel_is_a_sound_from_out_of_view(tmp_path: Path) -> None:
    """MS3: several may sound, its classes stand nowhere, and pictures bear the ending of their film."""
    (tmp_path / "ms3_meta_data.csv").write_text("name,split\nabcdefghijk_2,test\nabcdefghijk_3,val\n")
    for name, split in ("abcdefghijk_2", "test"), ("abcdefghijk_3", "val"):
        told(tmp_path / f"audio_wav/{split}/{name}.wav")
        for number in range(1, 6):
            ending = ".mp4" if split == "test" else ""
            picture(tmp_path / f"visual_frames/{name}/{name}{ending}_{number}.png")
            box = None if number == 4 else (0, 0, 23, 95)
            mask(tmp_path / f"gt_masks/{split}/{name}/{name}_{number}.png", box)
    source = AvsBench(root=tmp_path, split="all", storage=STORAGE)
    clips = {id: whole(source.read(id)) for id in source.ids()}
    assert len(clips) == 10 and {source.group(id) for id in clips} == {"abcdefghijk"}
    for id, clip in clips.items():
        note = clip.annotation
        assert note.film == id[:-2] and note.sources is not None
        assert note.boxes == ([] if id.endswith("4") else [(0, 0, 0.25, 1)])
        assert (note.mask is None) == id.endswith("4")


def test_a_broken_film_of_avsbench_is_named(single: Path) -> None:
    (single / "s4_data/gt_masks/test/dog_barking/abcdefghijk/abcdefghijk_2.png").unlink()
    (single / "s4_data/visual_frames/test/dog_barking/abcdefghijk/abcdefghijk_3.png").write_bytes(b"")
    source = AvsBench(root=single, storage=STORAGE)
    below = "test/dog_barking/abcdefghijk/abcdefghijk"
    assert refused(source.read("abcdefghijk_2")).startswith(f"s4_data/gt_masks/{below}_2.png: missing")
    assert refused(source.read("abcdefghijk_3")).startswith(f"s4_data/visual_frames/{below}_3.png: empty")


TABLES = {
    "no split": ("name,category\na,b\n", r"begins with 'name,category' and has no column split"),
    "a cell too few": ("name,start,category,split\na,0,dog\n", r"row 2: 'a,0,dog' is not name,start,category,split"),
    "no category": ("name,start,category,split\na,0,,test\n", r"row 2: 'a,0,,test' is not"),
    "a name that leads away": ("name,split\n../../a,test\n", r"row 2: '../../a,test' is not"),
    "a film twice": ("name,split\na,test\na,val\n", r"row 3: 'a' stands there twice"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_avsbench_that_is_none_is_one_sentence(tmp_path: Path, kind: str) -> None:
    text, sentence = TABLES[kind]
    path = tmp_path / "s4_meta_data.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path}: {sentence}"):
        AvsBench(root=tmp_path).ids()


def test_where_both_tables_lie_one_must_be_chosen(single: Path) -> None:
    (single / "ms3_meta_data.csv").write_text("name,split\nabcdefghijk_2,test\n")
    with pytest.raises(
        UserError, match=r"both s4_meta_data.csv and ms3_meta_data.csv lie there; give .* --csv"
    ):
        AvsBench(root=single).ids()
    assert len(AvsBench(root=single, csv=single / "s4_meta_data.csv").ids()) == 5
