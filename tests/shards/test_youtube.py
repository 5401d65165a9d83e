"""Files of VGG-Sound under the names that mirrors give them: one clip, one id, whoever wrote the name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.audit import compare_names
from shards.clip import Clip, Rejection, Storage
from shards.named import named
from shards.sources.vggsound import VggSound
from shards.sources.vggss import VggSs
from shards.youtube import clip_names, find_clip, youtube_video
from tests.shards.films import film

STORAGE = Storage(frame_side=64, seconds=3.0)
FILM_IDS = st.text("abAB01_-", min_size=11, max_size=11)


@given(FILM_IDS, st.integers(0, 99_999))
def test_every_form_of_a_name_means_its_clip(film_id: str, start: int) -> None:
    """Ids may begin and end with `-`, `_` and digits; only that they have 11 characters tells them apart."""
    clip = f"{film_id}_{start:06d}"
    ms = f"{film_id}_{1000 * start}_{1000 * start + 10_000}"
    seconds = f"{film_id}_{start}_{start + 10}"
    for name in (clip, f"{film_id}_{start}", ms, seconds, f"{film_id}_{start:06d}_{start + 10:06d}",
                 f"{film_id}_{start}.000_{start + 10}.000"):  # fmt: skip
        assert clip_names(name)[0] == clip, name
        assert find_clip(name, {clip}) == clip
        assert find_clip(name, {f"{film_id}_{start + 1:06d}"}) is None
    assert find_clip(f"{film_id}_{1000 * start}", {clip}) == clip  # milliseconds, where the table has them
    assert youtube_video(clip) == youtube_video(ms) == youtube_video(seconds) == film_id


@pytest.mark.parametrize(
    "name",
    ["", "kitchen", "abcdefghij_000030", "abcdefghijk", "abcdefghijk_", "abcdefghijk_10_10", "abcdefghijk_20_10",
     "abcdefghijk_1_2_3", "abcdefghijk_30x", "abcdefghijk_٣٠", "abcdéfghijk_30", "abcdefghijk_" + "9" * 30],
)  # fmt: skip
def test_other_names_mean_no_clip(name: str) -> None:
    assert clip_names(name) == []


def test_what_a_number_means_says_the_table() -> None:
    """30000 may be seconds or milliseconds; a clip of the first half second is 500 ms long or 500 s."""
    assert clip_names("abcdefghijk_30000") == ["abcdefghijk_030000", "abcdefghijk_000030"]
    assert find_clip("abcdefghijk_30000", {"abcdefghijk_000030"}) == "abcdefghijk_000030"
    assert find_clip("abcdefghijk_2000_2500", {"abcdefghijk_000002"}) == "abcdefghijk_000002"
    assert clip_names("abcdefghijk_30500_40500") == ["abcdefghijk_030500"]


def test_films_of_ones_own_are_not_taken_for_parts_of_one() -> None:
    """Else a cut would keep whole holidays on one side."""
    assert youtube_video("my_vacation_2019_2020") is None and youtube_video("kitchen-cam_1") is None


def test_the_audit_knows_a_tested_video_under_a_mirrors_name() -> None:
    training = [named("abcdefghijk_70000_80000"), named("zyxwvutsrqp_1_11")]
    leak = compare_names(training, [named("abcdefghijk_000030")])
    assert leak["film"].training == {"abcdefghijk_70000_80000"} and not leak["clip"].count


NAMES = {
    "-bcdefghij-_000030": "-bcdefghij-_30000_40000.mp4",
    "_bcdefg_12__000001": "part/0/_bcdefg_12__1_11.mkv",
    "abcdefghijk_000070": "train/abcdefghijk_000070.mp4",
    "abcdefghijk_000090": "abcdefghijk_000090.mp4",
}


@pytest.mark.parametrize("kind", [VggSound, VggSs])
def test_mirrored_files_are_packed_under_the_data_sets_ids(tmp_path: Path, kind: type) -> None:
    one = film(tmp_path / "film.mp4", seconds=6.0)
    for name in NAMES.values():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(one, tmp_path / "raw" / name)
    root = Path(shutil.move(one, tmp_path / "raw/zyxwvutsrqp_50_60.mp4")).parent  # no clip of the table
    rows = [f"{id[:11]},{int(id[12:])},owl hooting,train\n" for id in NAMES]
    (root / "vggsound.csv").write_text("".join(rows))
    boxes = [{"file": id, "class": "owl", "bbox": [[0.1, 0.1, 0.5, 0.5]]} for id in NAMES]
    (root / "vggss.json").write_text(json.dumps(boxes))
    source = kind(root=root, storage=STORAGE)
    assert source.ids() == sorted(NAMES)
    for id in NAMES:
        clip = source.read(id)
        assert isinstance(clip, Clip) and clip.id == id and clip.film == id[:11], clip
        assert clip.annotation.class_name.startswith("owl") and clip.time == 5.0


def test_two_files_of_one_clip_are_a_duplicate(tmp_path: Path) -> None:
    for name in ("abcdefghijk_30_40.mp4", "abcdefghijk_30000_40000.mp4"):
        film(tmp_path / name, seconds=1.5)
    (tmp_path / "vggsound.csv").write_text("abcdefghijk,30,owl hooting,train\nabcdefghijk,50,owl,train\n")
    source = VggSound(root=tmp_path, storage=STORAGE)
    found = source.read("abcdefghijk_000030")
    assert isinstance(found, Rejection)
    assert found.reason == "duplicate id: abcdefghijk_30000_40000.mp4, abcdefghijk_30_40.mp4"
    missing = Rejection("abcdefghijk_000050", "missing: there is no such file", "abcdefghijk_000050.mp4")
    assert source.read("abcdefghijk_000050") == missing


def test_real_clips_are_found_under_each_mirrors_names(real_dir: Path, tmp_path: Path) -> None:
    """Ids of real films, some of which begin with `-` or `_`; what they mean is unique among all of them."""
    known = {path.stem for path in (real_dir / "vggsound").glob("*.mp4")}
    assert len(known) == 40 and sum(name[0] in "-_" for name in known) >= 10
    for name in known:
        start = int(re.sub(r".*_", "", name))
        for form in (f"{start}_{start + 10}", f"{1000 * start}_{1000 * start + 10_000}", f"{start}"):
            assert find_clip(f"{name[:11]}_{form}", known) == name
