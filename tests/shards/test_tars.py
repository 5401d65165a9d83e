"""VGG-Sound packed out of its parts, tars that nothing unpacks (promises 1, 2 and 12)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacl.errors import UserError
from launch.jobs.measuring import restrict_systems
from launch.jobs.pack import merge, pack, pack_both
from shards import parts
from shards.clip import Storage
from shards.cut import Cut
from shards.manifest import Manifest
from shards.named import read_clips
from shards.parts import DamagedPart, Part, list_part
from shards.plan import make_plan
from shards.sources.vggsound import VggSound
from shards.sources.vggss import VggSs
from shards.store import open_store
from tests.shards.films import film
from tests.shards.test_pack import DOOM, contents

STORAGE = Storage(frame_side=32, seconds=1.0)
FILMS = [f"{letter * 11}_{start:06d}" for letter in "abcdefghi-_" for start in (7,)]
"""Eleven clips; the last two are of videos whose ids begin with `-` and `_`."""
LAID = {
    "vggsound_00.tar": ["scratch/video/dddddddddd" + "d_000007.mp4", "b" * 11 + "_7000_17000.mp4",
                        "-" * 11 + "_000007.mp4", "readme.txt"],
    "vggsound_01.tar.gz": ["x/y/" + "c" * 11 + "_7_17.mp4", "a" * 11 + "_000007.mp4", "_" * 11 + "_000007.mp4",
                           "e" * 11 + "_000007.mp4", "z" * 11 + "_000001.mp4"],
    "more/vggsound_02.tgz": ["f" * 11 + "_000007.mp4"],
}  # fmt: skip
"""Members of each part, in their order; `g`, `h` and `i` are in none."""
ORDER = [[f"{letter * 11}_000007" for letter in run] for run in ("f", "db-", "ca_e", "ghi")]
"""more/vggsound_02, then _00 and _01, then what no part holds."""


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


def write_part(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            add(tar, name, data)


@pytest.fixture(scope="module")
def one_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("film") / "film.mp4", seconds=5.5, size=(48, 32)).read_bytes()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of these tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def root(one_film: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts and the table."""
    folder = tmp_path_factory.mktemp("parts")
    for name, members in LAID.items():
        write_part(folder / name, dict.fromkeys(members, one_film))
    rows = [f"{id[:11]},7,owl hooting,train\n" for id in FILMS]
    (folder / "vggsound.csv").write_text("".join([*rows, "z" * 11 + ",1,owl,test\n"]))
    boxes = [{"file": id, "class": "owl", "bbox": [[0.1, 0.1, 0.5, 0.5]]} for id in FILMS]
    (folder / "vggss.json").write_text(json.dumps(boxes))
    return folder


@pytest.fixture(scope="module")
def packed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert pack(source(root), out, shard_size=2, max_rejected=0.3)
    return out


def source(root: Path, **options) -> VggSound:
    return VggSound(root=root, tars=True, storage=STORAGE, **options)


def rejected(out: Path) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    return {row["id"]: (row["file"], row["reason"]) for row in rows}


def test_indices_follow_parts_and_members_and_each_part_begins_a_shard(root: Path, packed: Path) -> None:
    plan = make_plan(source(root), 2)
    f, (d, b, minus), (c, a, under, e), (g, h, i) = (ORDER[0][0], *ORDER[1:])
    assert plan.ids == [f, "", d, b, minus, "", c, a, under, e, g, h, i]
    assert plan.clips == 11 and list(plan.rows) == [range(0, 1), range(1, 3), range(3, 5),
                                                    range(5, 6), range(6, 7)]  # fmt: skip
    store = open_store(packed)
    manifest = store.manifest
    assert manifest.parameters["order"] == "part-member" and manifest.parameters["runs"] == [1, 3, 4, 3]
    assert manifest.gaps.tolist() == [1, 5] and manifest.clips == 11 and "tars" not in manifest.parameters
    assert store.indices.tolist() == [0, 2, 3, 4, 6, 7, 8, 9]
    assert [store.annotation(index).id for index in store.indices] == [f, d, b, minus, c, a, under, e]
    assert rejected(packed) == dict.fromkeys((g, h, i), ("", "missing: no part holds it"))
    assert {clip.id for clip in read_clips(packed)} == {f, d, b, minus, c, a, under, e}


def test_the_same_clips_as_files_are_another_data_set_of_the_same_content(
    root: Path, packed: Path, one_film: bytes, tmp_path: Path
) -> None:
    for id in FILMS:
        if id[0] not in "ghi":
            (tmp_path / f"{id}.mp4").write_bytes(one_film)
    files = VggSound(root=tmp_path, csv=root / "vggsound.csv", storage=STORAGE)
    manifest = pack(files, tmp_path / "out", shard_size=2, max_rejected=0.3)
    tars = open_store(packed)
    assert manifest is not None and manifest.fingerprint != tars.fingerprint
    assert "order" not in manifest.parameters and "runs" not in manifest.parameters
    loose = open_store(tmp_path / "out")
    index = {loose.annotation(index).id: index for index in loose.indices}
    assert len(index) == 8
    for place in tars.indices:
        ours, theirs = tars.read(place), loose.read(index[tars.annotation(place).id])
        assert ours["jpg"] == theirs["jpg"] and ours["wav"] == theirs["wav"]


@pytest.mark.parametrize(("workers", "machines"), [(3, 1), (2, 2), (1, 5)])
def test_bytes_do_not_depend_on_workers_or_machines(
    root: Path, packed: Path, tmp_path: Path, workers: int, machines: int
) -> None:
    for turn in reversed(range(1, machines + 1)):
        pack(source(root), tmp_path / "out", shard_size=2, max_rejected=0.3, workers=workers,
             part=(turn, machines))  # fmt: skip
    merge(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(packed)


def test_killed_it_goes_on_to_the_same_bytes(root: Path, packed: Path, tmp_path: Path) -> None:
    words = ["pack", "vggsound", "--root", root, "--tars", "--out", tmp_path / "out", "--shard-size", 2,
             "--max-rejected", 0.3, "--frame-side", 32, "--seconds", 1, "--workers", 1]  # fmt: skip
    command = [sys.executable, "-m", "launch.main", *map(str, words)]
    for event in (6, 14, 25):
        doom = {"DOOM_FOLDER": str(tmp_path / "out"), "DOOM_EVENT": str(event), "DOOM_DELAY": "0"}
        environment = {**os.environ, **doom, "PYTHONPATH": str(DOOM)}
        done = subprocess.run(command, env=environment, start_new_session=True, capture_output=True)
        assert done.returncode < 0, done.stderr
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "8 clips in 7 shards" in ended.stdout and "3 rejected" in ended.stdout
    assert contents(tmp_path / "out") == contents(packed)
    info = subprocess.run([sys.executable, "-m", "launch.main", "shards", "info", tmp_path / "out"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "8 of 11 ids, 3 rejected" in info.stdout


def test_sides_of_a_cut_are_laid_out_for_themselves(root: Path, tmp_path: Path) -> None:
    seed = next(
        seed
        for seed in range(99)
        if 2 <= sum(Cut("train", 0.5, seed).keeps(id[:11]) for id in FILMS[:6]) <= 4
    )
    found = pack_both(source(root), tmp_path / "a", tmp_path / "b", share=0.5, seed=seed, shard_size=2,
                      max_rejected=0.3)  # fmt: skip
    sides = [open_store(out) for out in found]
    ids = [{side.annotation(index).id for index in side.indices} for side in sides]
    assert all(ids) and not ids[0] & ids[1] and len(ids[0] | ids[1]) == 8
    for side in sides:
        assert (
            side.manifest.parameters["cut"] and sum(side.manifest.parameters["runs"]) == side.manifest.clips
        )
    assert sum(side.manifest.clips for side in sides) == 11


def test_vggss_and_lists_pick_among_the_parts(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join([FILMS[0], FILMS[1]]))
    chosen = VggSs(root=root, tars=True, lists=(tmp_path / "list.txt",), storage=STORAGE)
    assert [id for id in make_plan(chosen, 2).ids if id] == [FILMS[1], FILMS[0]]
    manifest = pack(chosen, tmp_path / "out", shard_size=2)
    assert manifest is not None and manifest.parameters["runs"] == [1, 1]
    store = open_store(tmp_path / "out")
    assert [store.annotation(index).boxes for index in store.indices] == [[(0.1, 0.1, 0.5, 0.5)]] * 2
    (tmp_path / "pairs.csv").write_text(f"video,audio,label\n{FILMS[0]},{FILMS[1]},non-sounding\n")
    pairs = VggSs(root=root, tars=True, lists=(tmp_path / "pairs.csv",), storage=STORAGE)
    with pytest.raises(
        UserError, match=r"--tars: the list has a frame with another clip's sound, a+_000007\+b"
    ):
        make_plan(pairs)


def test_a_gap_is_no_missing_clip_of_an_evaluation(packed: Path) -> None:
    class Results:
        index = open_store(packed).indices

    _, missing = restrict_systems({"model": Results()}, None, open_store(packed))  # type: ignore[dict-item]
    assert missing == [10, 11, 12]


@pytest.mark.parametrize("runs", [[1, 3, 4, 4], [1, 3, 4], [0, 1, 3, 4, 3], "all", [True, 3, 4, 3], [10**30]])
def test_a_manifest_whose_runs_do_not_make_its_indices_is_refused(packed: Path, runs: object) -> None:
    text = (packed / "manifest.json").read_text()
    values = json.loads(text)
    values["parameters"]["runs"] = runs
    with pytest.raises(UserError, match=r"is damaged .*parameters\.runs"):
        Manifest.from_json(json.dumps(values), "m")


# Damage.


@pytest.fixture
def damaged(root: Path, one_film: bytes, tmp_path: Path) -> Path:
    """Two parts of four clips each, a tar and a compressed one, and the table."""
    folder = tmp_path / "damaged"
    for name, letters in (("p0.tar", "abcd"), ("p1.tar.gz", "efgh")):
        write_part(folder / name, {f"{letter * 11}_000007.mp4": one_film for letter in letters})
    (folder / "vggsound.csv").write_text("".join(f"{letter * 11},7,owl,train\n" for letter in "abcdefgh"))
    return folder


def broken_clips(root: Path, out: Path) -> dict[str, tuple[str, str]]:
    pack(source(root), out, shard_size=4, max_rejected=1.0)
    return {id[0]: found for id, found in rejected(out).items()}


def test_a_damaged_header_costs_its_member(damaged: Path, tmp_path: Path) -> None:
    part = damaged / "p0.tar"
    second = list_part(part).members[1].offset - 512
    data = bytearray(part.read_bytes())
    data[second + 10] ^= 0xFF
    part.write_bytes(data)
    assert broken_clips(damaged, tmp_path / "out") == {"b": ("", "missing: no part holds it")}
    assert source(damaged).remarks() == [f"p0.tar: is damaged: at byte {second} there is no header"]


@pytest.mark.parametrize("name", ["p0.tar", "p1.tar.gz"])
def test_a_part_that_ends_early_costs_what_is_not_there(damaged: Path, tmp_path: Path, name: str) -> None:
    """Promise 12: what lies before the damage is packed; the member in which it lies is named with its part."""
    part = damaged / name
    os.truncate(part, part.stat().st_size * 5 // 8)  # in the third of four
    third, fourth = ("c", "d") if name == "p0.tar" else ("g", "h")
    found = broken_clips(damaged, tmp_path / "out")
    assert set(found) == {third, fourth} and found[fourth][1] == "missing: no part holds it"
    file, reason = found[third]
    assert file == f"{name}: {third * 11}_000007.mp4" and reason.startswith("damaged part: "), reason
    (remark,) = source(damaged).remarks()
    assert remark.startswith(f"{name}: is damaged: ") and f"{third * 11}_000007.mp4" in remark


def test_flipped_bytes_of_a_part_never_end_the_run(damaged: Path, tmp_path: Path) -> None:
    part = damaged / "p1.tar.gz"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0x55
    part.write_bytes(data)
    found = broken_clips(damaged, tmp_path / "out")
    assert set(found) <= set("efgh")
    assert any(remark.startswith("p1.tar.gz: is damaged") for remark in source(damaged).remarks())


def test_a_clip_of_two_members_is_a_duplicate(damaged: Path, one_film: bytes, tmp_path: Path) -> None:
    write_part(damaged / "p2.tar", {"again/" + "a" * 11 + "_7_17.mp4": one_film, "empty/x.mp4": b""})
    named = "p0.tar: aaaaaaaaaaa_000007.mp4, p2.tar: again/aaaaaaaaaaa_7_17.mp4"
    assert broken_clips(damaged, tmp_path / "out") == {"a": ("", f"duplicate id: {named}")}


def test_parts_without_any_clip_are_a_sentence(tmp_path: Path, one_film: bytes) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "vggsound.csv").write_text("a" * 11 + ",7,owl,train\n")
    with pytest.raises(
        UserError, match=r"holds no part \(\*\.tar, .*there lie vggsound\.csv: no source reads"
    ):
        pack(source(root), tmp_path / "out")
    write_part(root / "p.tar", {"other.mp4": one_film})
    with pytest.raises(
        UserError, match=r"no part holds a clip of the table or list; p\.tar: they hold other\.mp4"
    ):
        pack(source(root, shortest=0.9), tmp_path / "out")  # another source: what is listed is kept
    with pytest.raises(UserError, match=r"there lie p\.tar: add --tars to read clips out of them"):
        pack(VggSound(root=root), tmp_path / "out")
    (root / "p.tar").write_bytes(os.urandom(4000))
    with pytest.raises(
        UserError, match=r"they hold no film \(p\.tar: is damaged: at byte 0 there is no header"
    ):
        pack(source(root, shortest=0.8), tmp_path / "out")


# Listing and reading.


def test_a_part_is_listed_once_and_again_when_it_changes(tmp_path: Path, cache: Path) -> None:
    part = tmp_path / "p.tar"
    write_part(part, {"a.mp4": b"1" * 700, "b.mp4": b"2"})
    files = set((cache / "parts").glob("*.json"))
    first = list_part(part)
    (written,) = set((cache / "parts").glob("*.json")) - files
    written.write_text(written.read_text().replace("a.mp4", "c.mp4"))
    assert [member.name for member in list_part(part).members] == ["c.mp4", "b.mp4"]  # read from the cache
    written.write_text("torn")
    assert list_part(part) == first
    os.utime(part, (1, 1))
    assert list_part(part) == first and len(set((cache / "parts").glob("*.json")) - files) == 2


@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_members_are_read_in_any_order(tmp_path: Path, ending: str) -> None:
    held = {f"{k}.mp4": os.urandom(10_000 + k) for k in range(6)}
    write_part(tmp_path / f"p.{ending}", held)
    listing = list_part(tmp_path / f"p.{ending}")
    assert [member.name for member in listing.members] == list(held) and listing.damage == []
    ticks: list[int] = []
    with Part(tmp_path / f"p.{ending}") as part:
        for k in (3, 0, 5, 5, 1):
            part.approach(listing.members[k].offset, lambda: ticks.append(1))
            assert part.member(listing.members[k]) == held[f"{k}.mp4"]
    assert ticks


def test_a_long_way_to_a_clip_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker that reads on to it would be taken for one that hangs."""
    monkeypatch.setattr(parts, "_STRIDE", 1000)
    write_part(tmp_path / "p.tgz", {"a": os.urandom(20_000), "b": b"x"})
    ticks: list[int] = []
    with Part(tmp_path / "p.tgz") as part:
        part.approach(list_part(tmp_path / "p.tgz").members[1].offset, lambda: ticks.append(1))
    assert len(ticks) == 22


def test_headers_that_lie_end_the_list_and_nothing_else(tmp_path: Path) -> None:
    """A size below zero would be read for ever (CVE-2025-8194), a huge one into memory."""
    for name, size in (("negative", b"\xff" * 12), ("huge", b"\x80" + b"\x7f" * 11)):
        header = bytearray(tarfile.TarInfo("a.mp4").tobuf(tarfile.USTAR_FORMAT))
        header[124:136] = size
        header[148:156] = b"        "
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        (tmp_path / f"{name}.tar").write_bytes(bytes(header) + bytes(2048))
        listing = list_part(tmp_path / f"{name}.tar")
        assert len(listing.damage) == 1, name
        with Part(tmp_path / f"{name}.tar") as part:
            for member in listing.members:
                with pytest.raises(DamagedPart):
                    part.member(member)


def test_links_and_folders_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            header = tarfile.TarInfo("a.mp4")
            header.type, header.linkname = kind, "/etc/passwd"
            tar.addfile(header)
        add(tar, "b.mp4", b"film")
    assert [member.name for member in list_part(tmp_path / "p.tar").members] == ["b.mp4"]
