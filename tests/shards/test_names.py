"""Lists, names and folders as the world has them: every row is read or refused, every clip packed or rejected."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import unicodedata

import pytest

from cacl.errors import UserError
from launch.jobs.audit import audit
from launch.jobs.measuring import read_ids as read_official_ids
from shards.audit import compare_names
from shards.clip import Clip
from shards.named import named, read_clips
from shards.pack import check_bytes, merge, pack
from shards.plan import make_plan
from shards.sources.generated import Generated
from shards.sources.lists import read_list, read_rows, write_ids
from shards.sources.prepared import Prepared
from shards.sources.videos import Videos
from shards.store import open_store
from tests.helpers import without_locks
from tests.shards.films import film
from tests.shards.tiny import jpg, smooth_picture, wav

DECOMPOSED, COMPOSED = (unicodedata.normalize(form, "고양이 é") for form in ("NFD", "NFC"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,start,label\na,0,x\nb,0,"dog\nc,0,x\nd,0,x\n', 3),
        ('a\n"b\nc\n', 2),
        ('a\n\nb,"x"y\nc\n', 3),
        ('a,"two\nlines"\n"b"c\n', 3),
    ],
)
@pytest.mark.parametrize(
    "read", [read_rows, read_list, read_clips, lambda path: read_official_ids(str(path))]
)
def test_a_quote_that_is_not_closed_names_its_row_in_every_reader(tmp_path, read, text, line):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"list\.csv: the row of line {line} .*close its quotes"):
        read(path)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_reader_of_lists_takes_what_spreadsheets_write(tmp_path, ending, mark):
    path = tmp_path / "list.csv"
    path.write_bytes((mark + ending.join(["a", "", '"b"', "c d,label", ""])).encode())
    assert read_official_ids(str(path)) == ["a", "b", "c d"]
    assert {clip.id for clip in read_clips(path)} == {"a", "b", "c d"} and [
        pick.id for pick in read_list(path)
    ] == ["a", "b", "c d"]
    boxes = tmp_path / "vggss.json"
    boxes.write_bytes((mark + json.dumps([{"file": "a", "bbox": [[0, 0, 1, 1]]}])).encode())
    assert read_official_ids(str(boxes)) == ["a"] and [clip.id for clip in read_clips(boxes)] == ["a"]


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"\xe9\n"])
def test_a_list_in_another_encoding_is_a_sentence(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    for read in (read_list, lambda path: read_official_ids(str(path))):
        with pytest.raises(UserError, match=r"list\.txt: "):
            read(path)
    for read in (read_list, lambda path: read_official_ids(str(path))):
        with pytest.raises(UserError, match=r"nowhere"):
            read(tmp_path / "nowhere.txt")


def test_what_an_audit_writes_is_read_as_it_was(tmp_path):
    ids = ["a", 'b "c"', "d,e", "고양이", "-f", "#g"]
    write_ids(tmp_path / "clean.txt", ids)
    assert [pick.id for pick in read_list(tmp_path / "clean.txt")] == ids
    for bad in ("a\nb", "../../etc/passwd", "/etc/passwd", "a\x1b[2J", " a", ""):
        with pytest.raises(UserError, match=r"bad\.txt: the id .* cannot stand in a list"):
            write_ids(tmp_path / "bad.txt", ["a", bad])
        assert not (tmp_path / "bad.txt").exists()


def test_an_audit_of_shards_with_names_of_several_lines_writes_none_of_them(tmp_path):
    out = tmp_path / "packed"
    plan = make_plan(Generated(split="test", clips=3), 3)
    pack(plan, out)
    merge(plan.head, out, 0.0)
    tar = out / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b'"test-000001"', b'"a\\nb-000001"'))
    assert open_store(out).annotation(1).id == "a\nb-000001"
    with pytest.raises(UserError, match=r"clean\.txt: the id 'a\\nb-000001' cannot stand"):
        audit(out, clean_file=tmp_path / "clean.txt")
    assert not (tmp_path / "clean.txt").exists()


@pytest.mark.parametrize(("listed", "there"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_name_is_found_in_either_normal_form(tmp_path, listed, there):
    film(tmp_path / f"{there}.mp4", seconds=1.5)
    (tmp_path / "list.txt").write_text(listed)
    (tmp_path / "parts.csv").write_text(f"id,label\n{there},cat\n")
    (tmp_path / "boxes.json").write_text(json.dumps([{"file": there, "bbox": [[0, 0, 1, 1]]}]))
    source = Videos(root=tmp_path, lists=(tmp_path / "list.txt",), csv=tmp_path / "parts.csv",
                    boxes=tmp_path / "boxes.json")  # fmt: skip
    clip = source.read(source.ids()[0])
    assert isinstance(clip, Clip) and clip.id == listed, clip
    assert [(one.class_name, one.boxes) for one in clip.sources or ()] == [("cat", ((0.0, 0.0, 1.0, 1.0),))]
    assert source.remarks() == []
    assert compare_names([named(listed)], [named(there)])["clip"].pairs == [(listed, there)]


def test_prepared_files_are_found_in_either_normal_form(tmp_path):
    import numpy as np

    random = np.random.default_rng(0)
    for folder, name, data in (("frames", f"{DECOMPOSED}.jpg", jpg(smooth_picture(random, 48, 64))),
                               ("audio", f"{COMPOSED}.wav", wav(random.normal(0, 0.1, 32000), 16000))):  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(data)
    (tmp_path / "list.txt").write_text(COMPOSED)
    source = Prepared(root=tmp_path, lists=(tmp_path / "list.txt",))
    assert isinstance(source.read(COMPOSED), Clip)


def test_a_name_that_no_file_can_have_is_one_rejected_clip(tmp_path):
    film(tmp_path / "a.mp4", seconds=1.5)
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "frames").mkdir()
    (tmp_path / "list.txt").write_text("\n".join(["a", "z" * 300, "b/" * 3000 + "c", "loop"]))
    for kind in (Videos, Prepared):
        source = kind(root=tmp_path, lists=(tmp_path / "list.txt",))
        reasons = {id[:4]: getattr(source.read(id), "reason", None) for id in source.ids()}
        assert reasons.pop("a") is None or kind is Prepared
        assert set(reasons.values()) == {"missing: there is no such file"}, kind


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_packing_goes_on_without_locks_and_says_so_once(tmp_path, number):
    command = [
        sys.executable,
        without_locks.__file__,
        str(number),
        sys.executable,
        "-m",
        "launch.main",
        "pack",
    ]
    words = ["generated", "--clips", "4", "--shard-size", "2", "--frame-side", "48", "--workers", "2"]
    done = subprocess.run(
        [*command, *words, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("has no file locks") == 1
    check_bytes(tmp_path / "out")


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.idx"])
@pytest.mark.parametrize("damage", ["flipped", "longer", "gone"])
def test_a_shard_that_was_damaged_before_merging_is_found_by_merge(tmp_path, name, damage):
    plan = make_plan(Generated(split="test", clips=6), 2)
    pack(plan, tmp_path)
    file = tmp_path / name
    whole = bytearray(file.read_bytes())
    if damage == "flipped":
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole)
    elif damage == "longer":
        file.write_bytes(whole + b"\0")
    else:
        file.unlink()
    with pytest.raises(
        UserError, match=r"shard-000001\.(tar|idx): is damaged.*pack its part again|1 of 3 shards"
    ):
        merge(plan.head, tmp_path, 0.0)
    assert not (tmp_path / "manifest.json").exists()
    file.unlink(missing_ok=True)
    pack(plan, tmp_path)
    merge(plan.head, tmp_path, 0.0)
    check_bytes(tmp_path)
