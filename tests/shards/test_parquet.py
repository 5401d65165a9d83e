"""Parquet files with media in them, as hubs publish them (promises 1, 2 and 12)."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from cacl.errors import UserError
from launch.jobs.pack import pack, pack_both
from shards.plan import make_plan
from shards.rows import DamagedRows, Rows, read_column, read_table
from shards.sources.parquet import Parquet
from shards.store import open_store
from tests.launch.tiny import cacl
from tests.shards.films import film
from tests.shards.partwise import (
    STORAGE,
    assert_division_changes_nothing,
    assert_goes_on_after_kills,
    classes,
    opened,
    rejected,
    sound,
    tone,
)
from tests.shards.tiny import jpg, smooth_picture, wav

PICTURE = jpg(smooth_picture(np.random.default_rng(0), 40, 56))
SOUND = wav(tone(), 16000)


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, rows: int = 2) -> None:
    """Write a table in row groups of `rows`, with Hugging Face's note of its `features`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        note = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": note})
    how = {"write_page_checksum": True, "compression": "none", "use_dictionary": False}
    pages = {"write_batch_size": 1, "data_page_size": 1}  # a row each
    parquet.write_table(table, path, row_group_size=rows, **pages, **how)


def paired(data: list[bytes | None], names: list[str]) -> list[dict[str, Any]]:
    return [{"bytes": one, "path": name} for one, name in zip(data, names, strict=True)]


def source(root: Path, **options) -> Parquet:
    return Parquet(root=root, storage=STORAGE, **options)


LABELS = {"label": {"names": ["owl", "dog"], "_type": "ClassLabel"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of films in Hugging Face's layout and one of plain pairs."""
    folder = tmp_path_factory.mktemp("tables")
    one = film(folder.parent / "film.mp4", seconds=1.5, size=(48, 32)).read_bytes()
    names = [f"{letter * 11}_000007.mp4" for letter in "cab"]
    write(folder / "b/train-0.parquet",
          {"video": paired([one] * 3, names), "label": [1, 0, -1], "width": [48] * 3}, LABELS)  # fmt: skip
    write(folder / "a.parquet", {
        "__key__": ["x/2.jpg", "x/0.jpg", "x/1"], "jpg": [PICTURE] * 3,
        "flac": [sound("flac"), sound("m4a"), SOUND], "caption": ["cat", None, "a long one " * 20],
    })  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def packed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert pack(source(root), out, shard_size=2)
    return out


def test_indices_follow_files_and_rows_and_classes_come_through(root: Path, packed: Path) -> None:
    rows = [f"b/train-0/{row:06d}" for row in range(3)]
    assert make_plan(source(root), 2).ids == ["x/2", "x/0", "x/1", "", *rows]
    store = open_store(packed)
    assert store.manifest.parameters["order"] == "part-member" and store.manifest.parameters["runs"] == [3, 3]
    assert classes(store) == {
        "x/2": ["cat"],
        "x/0": [],
        "x/1": [],
        **dict(zip(rows, [["dog"], ["owl"], []], strict=True)),
    }
    assert rejected(packed) == {}
    assert source(root).remarks() == [f"--root {root}: columns that are not read: width"]


def test_bytes_do_not_depend_on_workers_or_machines(root: Path, packed: Path, tmp_path: Path) -> None:
    assert_division_changes_nothing(source(root), packed, tmp_path)


def test_killed_it_goes_on_to_the_same_bytes(root: Path, packed: Path, tmp_path: Path) -> None:
    assert_goes_on_after_kills(["parquet", "--root", root], packed, tmp_path / "out")


def test_names_of_files_can_be_ids_and_keep_videos_together(root: Path, tmp_path: Path) -> None:
    options = {"video_column": "video", "id_column": "video"}
    with pytest.raises(
        UserError, match=r"--video-column video: a\.parquet has no such column; .*jpg \(binary\)"
    ):
        source(root, **options).ids()
    named = source(root / "b", **options)
    assert make_plan(named).ids == [f"{letter * 11}_000007" for letter in "cab"]
    found = pack_both(named, tmp_path / "a", tmp_path / "b", share=0.5, seed=1)
    sides = [set(classes(open_store(out))) for out in found]
    assert all(sides) and len(sides[0] | sides[1]) == 3


def test_lists_and_boxes_name_rows_by_their_ids(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x/1\nb/train-0/000001\ngone\n")
    (tmp_path / "boxes.json").write_text(
        json.dumps([{"file": "x/1", "class": "cat", "bbox": [[0, 0, 1, 0.5]]}])
    )
    chosen = source(root, lists=(tmp_path / "list.txt",), boxes=tmp_path / "boxes.json")
    store = opened(chosen, tmp_path / "out")
    assert classes(store) == {"x/1": ["cat"], "b/train-0/000001": ["owl"]}
    assert store.annotation(0).boxes == [(0, 0, 1, 0.5)]
    assert rejected(tmp_path / "out") == {"gone": ("", "missing: no part holds it")}
    (tmp_path / "pairs.csv").write_text("video,audio,label\nx/1,x/2,sounding\n")
    with pytest.raises(UserError, match=r"--list: has a frame with another clip's sound, x/1\+x/2"):
        source(root, lists=(tmp_path / "pairs.csv",)).ids()


def test_rows_that_cannot_be_used_are_rejected_with_a_sentence_each(tmp_path: Path) -> None:
    ids = ["path", "none", "void", "torn", "label", "twice", "twice", "good", None]
    sounds = [SOUND] * 8 + [b""]
    write(tmp_path / "s/0.parquet", {
        "id": ids, "audio": sounds, "label": [0, 0, 0, 0, 7, 0, 0, 1, 0],
        "image": paired([None, None, b"", PICTURE[:300], *[PICTURE] * 5], ["a.jpg", "", *["b.jpg"] * 7]),
    }, LABELS)  # fmt: skip
    assert classes(opened(source(tmp_path / "s"), tmp_path / "out", 20)) == {"good": ["dog"]}
    found = rejected(tmp_path / "out")
    assert found.pop("torn")[1].startswith("undecodable frame: ")
    assert found == {
        "path": ("0.parquet: row 0", "no bytes: image only names a.jpg; fetch that file, and pack it with `videos` or `prepared`"),
        "none": ("0.parquet: row 1", "no bytes: image is empty"),
        "void": ("0.parquet: row 2", "empty: zero bytes"),
        "label": ("0.parquet: row 4", "no class: 7 is not one of 2 classes"),
        "twice": ("0.parquet: row 5", "duplicate id: 0.parquet: row 5, 0.parquet: row 6"),
        "0/000008": ("0.parquet: row 8", "empty: zero bytes"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"clip": [b"x"], "n": [1]}, {}, r"0\.parquet has no column that is known to hold films, or pictures and sounds, as bytes; its columns are clip \(binary\), n \(int64\): name yours with --video-column, or"),
        ({"image": [b"x"], "noise": [b"x"]}, {}, r"has pictures in image, and no column that is known to hold sounds; .* name it with --audio-column"),
        ({"video": ["a.mp4"]}, {}, r"its columns are video \(string\)"),
        ({"clip": [1]}, {"video_column": "clip"}, r"--video-column clip: holds int64 in 0\.parquet, and is read as bytes"),
        ({"video": [b"x"]}, {"label_column": "video"}, r"--label-column video: holds binary .* read as text or numbers"),
        ({"video": [b"x"]}, {"id_column": "no"}, r"--id-column no: 0\.parquet has no such column"),
        ({"video": pa.array([], pa.binary())}, {}, r"there is no row in 0\.parquet"),
    ],
)  # fmt: skip
def test_where_no_column_fits_the_message_lists_them_and_names_the_option(
    tmp_path, columns, options, said
) -> None:
    write(tmp_path / "0.parquet", columns)
    with pytest.raises(UserError, match=said):
        source(tmp_path, **options).ids()


def test_a_film_beside_a_picture_is_no_clip() -> None:
    with pytest.raises(UserError, match="--audio-column: beside --video-column it has no use"):
        source(Path(), video_column="a", audio_column="b")


def test_where_no_file_is_the_message_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    with pytest.raises(
        UserError, match=r"holds no file \(\*\.parquet\); there lie a\.tar: cacl pack webdataset"
    ):
        source(tmp_path).ids()


# Damage.


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two files of six clips each, in row groups of three."""
    for name in "ab":
        columns = {"id": [f"{name}{k}" for k in range(6)], "jpg": [PICTURE] * 6, "wav": [SOUND] * 6}
        write(tmp_path / f"s/{name}.parquet", columns, rows=3)
    return tmp_path / "s"


def test_damage_in_a_row_group_costs_its_rows_from_there_on(damaged: Path, tmp_path: Path) -> None:
    """Promise 12: file and row are named; the file's other row groups and other files are packed."""
    path = damaged / "a.parquet"
    place = parquet.ParquetFile(path).metadata.row_group(0).column(2).data_page_offset
    data = bytearray(path.read_bytes())
    data[place + len(SOUND) + 2000] ^= 0xFF  # in the second of three pages
    path.write_bytes(data)
    kept = ["a0", "a3", "a4", "a5", "b0", "b1", "b2", "b3", "b4", "b5"]
    assert sorted(classes(opened(source(damaged), tmp_path / "out", 10))) == kept
    found = rejected(tmp_path / "out")
    assert set(found) == {"a1", "a2"}
    for row, (file, reason) in enumerate(found.values(), start=1):
        assert file == f"a.parquet: row {row}" and reason.startswith("damaged part: ") and "CRC" in reason


def test_a_file_without_its_end_is_told_and_the_others_are_packed(damaged: Path, tmp_path: Path) -> None:
    os.truncate(damaged / "a.parquet", 5000)
    assert sorted(classes(opened(source(damaged), tmp_path / "out", 10))) == [f"b{k}" for k in range(6)]
    (remark,) = source(damaged).remarks()
    assert remark.startswith("a.parquet: is damaged, and none of its rows can be read: ")
    (damaged / "b.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.parquet: is damaged"):
        source(damaged, shortest=0.9).ids()


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_never_end_the_run(damaged: Path, seed: int) -> None:
    """Whatever is read of a damaged file is a value or DamagedRows: no other error, no death."""
    path, random = damaged / "a.parquet", np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in random.integers(4, len(data), 200):
        data[place] ^= int(random.integers(1, 256))
    path.write_bytes(data)
    try:
        table = read_table(path)
        read_column(path, table.schema.names[0])
        rows = Rows(path, tuple(table.schema.names))
    except DamagedRows:
        return
    for row in range(table.rows):
        try:
            rows.read(row)
        except DamagedRows:
            continue


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", {"n": list(range(11)), "data": [bytes([k]) * 9 for k in range(11)]}, rows=4)
    rows, ticks = Rows(tmp_path / "0.parquet", ("data", "n")), []
    for row in (3, 3, 0, 10, 4, 7, 5):
        rows.approach(row, lambda: ticks.append(1))
        assert rows.read(row) == {"n": row, "data": bytes([row]) * 9}
    assert ticks


def test_a_long_row_group_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """64 rows of 1 MiB, a page each: three were seen in memory."""
    data = [os.urandom(2**20) for _ in range(64)]
    write(tmp_path / "0.parquet", {"data": data}, rows=64)
    rows = Rows(tmp_path / "0.parquet", ("data",))
    before, most = pa.total_allocated_bytes(), 0
    for row in range(64):
        assert rows.read(row)["data"] == data[row]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 8 * 2**20


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, []), ("", []), (math.nan, []), (3.0, ["3"]), (0, ["0"]), (" owl ", ["owl"]), ("a\nb", []), ("x" * 101, [])],
)  # fmt: skip
def test_labels_are_classes_or_nothing(tmp_path: Path, value: object, expected: list[str]) -> None:
    write(tmp_path / "s/0.parquet", {"jpg": [PICTURE], "wav": [SOUND], "label": [value]})
    assert list(classes(opened(source(tmp_path / "s"), tmp_path / "out")).values()) == [expected]


def test_real_clips_are_packed_by_the_command(real_dir: Path, tmp_path: Path) -> None:
    """Films of VGG-SS as a hub's viewer writes them."""
    rows = json.loads((real_dir / "manifest.json").read_text())
    labels = {row["key"]: row["cls"] for row in rows if row["file"].startswith("vggss/")}
    films = sorted((real_dir / "vggss").glob("*.mp4"))[:5]
    names = sorted({labels[path.stem] for path in films})
    columns = {
        "video": paired([path.read_bytes() for path in films], [path.name for path in films]),
        "label": [names.index(labels[path.stem]) for path in films],
    }
    write(
        tmp_path / "s/train-00000-of-00001.parquet",
        columns,
        {"label": {"names": names, "_type": "ClassLabel"}},
    )
    answer = cacl(
        "pack",
        "parquet",
        "--root",
        str(tmp_path / "s"),
        "--out",
        str(tmp_path / "out"),
        "--id-column",
        "video",
    )
    assert answer.returncode == 0, answer.stderr
    assert classes(open_store(tmp_path / "out")) == {path.stem: [labels[path.stem]] for path in films}
