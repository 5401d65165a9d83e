"""Two names of one clip, and parts of one film, are told by names and annotations alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacl.annotation import Annotation
from cacl.errors import UserError
from launch.main import main
from shards.audit import compare_names
from shards.exclusion import excluded
from shards.named import Named, clips_of, named, named_of
from shards.store import open_store
from tests.shards.films import film

CLIP = "abcdefghijk_000030"


def kind_of(training: Named | str, tested: Named | str) -> str:
    """Return what two clips share, empty if nothing."""
    one, other = (clip if isinstance(clip, Named) else named(clip) for clip in (training, tested))
    kinds = [kind for kind, shared in compare_names([one], [other]).items() if shared.count]
    assert len(kinds) <= 1, "a pair is of one kind"
    return kinds[0] if kinds else ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (CLIP, "clip"),
        ("abcdefghijk_30000_40000", "clip"),
        ("abcdefghijk_30_40", "clip"),
        ("abcdefghijk_30", "clip"),
        ("abcdefghijk_30000", "clip"),
        (f"train/owls/{CLIP}.mp4", "clip"),
        (f"{CLIP}.WebM", "clip"),
        ("abcdefghijk_30.000_40.000", "clip"),
        ("abcdefghijk_000033", "moment"),
        ("abcdefghijk_20500_30500", "moment"),
        ("abcdefghijk_32_35", "moment"),
        ("abcdefghijk_000040", "film"),
        ("abcdefghijk_000020", "film"),
        ("abcdefghijk_100000_110000", "film"),
        ("abcdefghijk_030000", "film"),
        ("abcdefghijk", "film"),
        ("abcdefghijK_000030", ""),
        ("kitchen", ""),
        ("xabcdefghijk_000030", ""),
    ],
)
def test_what_a_name_shares_with_a_tested_clip(name: str, kind: str) -> None:
    assert kind_of(name, CLIP) == kind_of(CLIP, name) == kind


@given(st.integers(0, 99_999), st.integers(0, 99_999))
def test_parts_overlap_where_less_than_ten_seconds_lie_between_their_beginnings(one: int, other: int) -> None:
    names = [f"abcdefghijk_{begin:06d}" for begin in (one, other)]
    mirrored = [f"more/abcdefghijk_{1000 * begin}_{1000 * begin + 10_000}.mkv" for begin in (one, other)]
    expected = "clip" if one == other else "moment" if abs(one - other) < 10 else "film"
    for a in (names[0], mirrored[0]):
        for b in (names[1], mirrored[1]):
            assert kind_of(a, b) == expected


def test_own_films_of_eleven_letters_are_no_films_of_youtube() -> None:
    """Unless another name says that they are, in either set."""
    assert kind_of("my-kitchen1_1", "my-kitchen1_2") == ""
    leak = compare_names([named("my-kitchen1_1")], [named("my-kitchen1_5"), named("my-kitchen1_000099")])
    assert {kind for kind, shared in leak.items() if shared.count} == {"moment", "film"}


def test_a_pair_shares_what_its_frame_or_its_sound_shares() -> None:
    pair = f"{CLIP}+zyxwvutsrqp_000010"
    assert kind_of(CLIP, pair) == kind_of("zyxwvutsrqp_10_20", pair) == "clip"
    assert kind_of("zyxwvutsrqp_000012", pair) == "moment"
    assert kind_of("rock", "rock+roll") == "", "a name of one's own is no pair"


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (("kitchen_000000", "kitchen", 1.5), ("kitchen_000002", "kitchen", 3.5), "moment"),
        (("kitchen_000000", "kitchen", 1.5), ("kitchen_000003", "kitchen", 4.5), "film"),
        (("kitchen_000000.500", "kitchen", 2.0), ("kitchen_000003", "kitchen", 4.5), "moment"),
        (("a", "kitchen", 10.0), ("b", "kitchen", 12.0), "moment"),
        (("a", "kitchen", 10.0), ("b", "kitchen", 14.0), "film"),
        (("a", "kitchen", None), ("b", "kitchen", 14.0), "film"),
        (("a", "kitchen", 10.0), ("b", "garden", 10.0), ""),
        (("kitchen", None, 1.5), ("kitchen_000020", "kitchen", 21.5), "film"),
        # Two clips of a video, each cut out and packed from its own beginning.
        (("x/1", "abcdefghijk", 5.0), ("x/2", "abcdefghijk", 5.0), "film"),
        (("abcdefghijk_12_15", "abcdefghijk", 5.0), (CLIP, "abcdefghijk", 5.0), "film"),
    ],
)
def test_annotations_say_the_film_and_the_time(one: tuple, other: tuple, kind: str) -> None:
    """Each an id, its film and the time of its frame; the stored sound has three seconds."""
    clips = [named_of(Annotation(id, film=film, time=time), 3.0) for id, film, time in (one, other)]
    assert kind_of(*clips) == kind_of(*clips[::-1]) == kind


def test_within_a_set_parts_of_a_film_are_nothing_and_each_pair_is_there_once() -> None:
    names = ["abcdefghijk_000000", "abcdefghijk_000005", "abcdefghijk_000020", "x/abcdefghijk_20000_30000"]
    leak = compare_names([named(name) for name in names])
    assert {kind: shared.pairs for kind, shared in leak.items()} == {
        "clip": [(names[3], names[2])],
        "moment": [(names[1], names[0])],
    }


def test_packed_windows_of_a_film_are_known_by_it_and_left_out_by_their_ids(tmp_path: Path) -> None:
    film(tmp_path / "films" / "one.mp4", seconds=6.0)
    (tmp_path / "parts.csv").write_text("id,start\none,0\none,1\none,4\n")
    words = ["--seconds", "2", "--frame-side", "32", "--out", str(tmp_path / "packed")]
    csv = ["--csv", str(tmp_path / "parts.csv")]
    assert main(["pack", "videos", "--root", str(tmp_path / "films"), *csv, *words]) == 0
    store = open_store(tmp_path / "packed")
    clips = clips_of(store)
    assert [span for clip in clips for span in clip.spans] == [("one", 0, 2), ("one", 1, 3), ("one", 4, 6)]
    leak = compare_names(clips)
    assert leak["moment"].pairs == [("one_000001", "one_000000")] and not leak["clip"].count
    (tmp_path / "out.txt").write_text("one_000001\nanother\n")
    (left,) = excluded(store, tmp_path / "out.txt")
    assert left.tolist() == [0, 2] and store.shards[0].tolist() == [0, 1, 2]
    (tmp_path / "all.txt").write_text("one_000000\none_000001\none_000004\n")
    with pytest.raises(UserError, match=r"all\.txt: names every clip of the data set"):
        excluded(store, tmp_path / "all.txt")
