"""Nothing of a source's names: the sentence says what does lie there, and what reads it (no lost run)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacl.errors import UserError
from launch.jobs.pack import pack
from shards.clip import Storage
from shards.sources.avatar import Avatar
from shards.sources.avsbench import AvsBench
from shards.sources.duets import MusicDuet
from shards.sources.flickr import Flickr
from shards.sources.frames import Frames
from shards.sources.interactive import Is3
from shards.sources.lying import what_lies
from shards.sources.prepared import Prepared
from shards.sources.vggsound import VggSound
from shards.sources.vggss import VggSs
from shards.sources.videos import Videos
from tests.shards.films import film

YOUTUBE = "abcdefghijk"


def lay(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("source", "names", "said"),
    [
        (Prepared, [], "it is empty"),
        (Prepared, ["a.mp4", "b.mkv"], "there lie a.mp4, b.mkv: cacl pack videos --root {root} reads them"),
        (Videos, ["notes.txt"], "there lie notes.txt: no source reads such files"),
        (Videos, ["frames/a.jpg", "audio/a.wav"], "there lie audio/a.wav, frames/a.jpg: cacl pack prepared --root {root} reads them"),
        (Prepared, ["x/frames/a.jpg"], "there lie x/frames/a.jpg: give --root {root}/x"),
        (Flickr, [f"d/{YOUTUBE}_{k}_{k + 10}.mp4" for k in range(9)], "_2_12.mp4 and 6 more: cacl pack vggsound --root {root} reads them"),
        (Videos, ["x/IS3_annotation.json", "x/images/a_b_1_a.jpg"], "cacl pack is3 --root {root}/x reads them"),
        (Prepared, ["vpo_ss_bbox.json"], "cacl pack vpo --root {root} reads them"),
        (Is3, ["s4_meta_data.csv", "s4_data/a.txt"], "cacl pack avsbench --root {root} reads them"),
        (AvsBench, ["Single-source/s4_meta_data.csv"], "s4_meta_data.csv: give --root {root}/Single-source"),
        (Avatar, ["music_duet.json"], "cacl pack music-duet --root {root} reads them"),
        (MusicDuet, ["frames/a.jpg", "audio/a.wav"], "cacl pack prepared --root {root} reads them"),
        (Prepared, ["a/metadata/x/00050.json", "a/video/x.mp4"], "cacl pack avatar --root {root}/a reads them"),
        (Videos, ["s/0.tar", "s/1.tgz"], "there lie s/0.tar, s/1.tgz: cacl pack webdataset --root {root} reads them, and cacl pack vggsound --tars its own clips in them"),
        (Prepared, ["data/train-0.parquet"], "there lie data/train-0.parquet: cacl pack parquet --root {root} reads them"),
        (Videos, ["d/clip/001.jpg", "d/clip/002.jpg", "audio/clip.wav"], "there lie d/clip/001.jpg, d/clip/002.jpg: cacl pack frames --root {root}/d reads them"),
        (Videos, ["frames/12.jpg"], "there lie frames/12.jpg: cacl pack prepared --root {root} reads them"),
        (Frames, ["a.mp4"], "there lie a.mp4: cacl pack videos --root {root} reads them"),
        (Frames, ["a.tar"], "there lie a.tar: cacl pack webdataset --root {root} reads them"),
        (Videos, ["x/shard-000000.tar", "x/manifest.json"], "they are packed already, see: cacl shards info {root}/x"),
    ],
)  # fmt: skip
def test_a_folder_of_something_else_is_described(tmp_path, source, names, said) -> None:
    lay(tmp_path, *names)
    with pytest.raises(UserError) as caught:
        source(root=tmp_path).ids()
    message = str(caught.value)
    assert message.startswith(f"--root {tmp_path}: holds no clip of {source.name} (")
    assert said.format(root=tmp_path) in message


def test_a_table_none_of_whose_clips_is_there_packs_nothing(tmp_path: Path) -> None:
    """199,000 rejected clips would say less, and later."""
    root = tmp_path / "raw"
    lay(root, "one.mp4", "list.txt")
    (root / "vggsound.csv").write_text(f"{YOUTUBE},30,owl hooting,train\n")
    (root / "vggss.json").write_text(f'[{{"file": "{YOUTUBE}_000030", "bbox": [[0, 0, 1, 1]]}}]')
    (root / "list.txt").write_text(f"{YOUTUBE}_000030\n")
    (root / "parts.csv").write_text("id,start\ntwo,0\n")
    lists = (root / "list.txt",)
    for source in (VggSound(root=root), VggSs(root=root), VggSound(root=root, lists=lists),
                   Prepared(root=root, lists=lists)):  # fmt: skip
        with pytest.raises(UserError, match=r"there lie one\.mp4: cacl pack videos --root .* reads them"):
            pack(source, tmp_path / "out")
    for other in (Videos(root=root, csv=root / "parts.csv"), Videos(root=root, lists=lists)):
        with pytest.raises(UserError, match=r"there lie one\.mp4: no table or list names any of them"):
            pack(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (root / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match=r"empty\.txt: is empty"):
        Prepared(root=root, lists=(root / "empty.txt",)).ids()


def test_one_file_of_a_table_is_enough_to_pack(tmp_path: Path) -> None:
    film(tmp_path / f"raw/{YOUTUBE}_30_40.mp4", seconds=6.0)
    (tmp_path / "raw/vggsound.csv").write_text(f"{YOUTUBE},30,owl,train\n{YOUTUBE},90,owl,train\n")
    storage = Storage(frame_side=48, seconds=1.0)
    manifest = pack(VggSound(root=tmp_path / "raw", storage=storage), tmp_path / "out", max_rejected=0.5)
    assert manifest is not None and manifest.shards[0].missing == (1,)


def test_a_folder_of_very_many_files_is_not_looked_through(tmp_path: Path) -> None:
    lay(tmp_path, *(f"{k:05d}.txt" for k in range(6000)))
    assert what_lies(tmp_path, "videos").startswith("there lie 00000.txt, 00001.txt, 00002.txt and 4997 more")
