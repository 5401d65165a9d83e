"""Promises 1, 2 and 12 of packing: indices, bytes and fingerprints that nothing disturbs, and no lost run."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset

from cacl.errors import UserError
from shards import workers
from shards.manifest import Manifest
from shards.pack import check_bytes, check_packed, merge, pack
from shards.plan import PackPlan, make_plan
from shards.sources.generated import Generated
from shards.store import open_store
from shards.writer import WORK, read_entry
from tests.shards.classed import Classed, packed_here, write_shards
from tests.shards.fragile import Fragile

GENERATED = ["generated", "--split", "test", "--clips", "30", "--shard-size", "4", "--workers", "2"]
DOOM = Path(__file__).parent / "doom"


def cacl(*words: str | Path, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def packed(
    plan: PackPlan, out: Path, workers: int = 1, parts: int = 1, max_rejected: float = 1.0
) -> Manifest:
    for turn in reversed(range(1, parts + 1)):
        pack(plan, out, workers=workers, part=(turn, parts))
    return merge(plan.head, out, max_rejected)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty generated clips, packed without any disturbance."""
    out = tmp_path_factory.mktemp("once") / "generated"
    assert cacl("pack", *GENERATED, "--out", out).returncode == 0
    return out


@pytest.mark.parametrize(("workers", "parts"), [(1, 1), (3, 1), (2, 3)])
def test_bytes_do_not_depend_on_workers_or_parts(
    once: Path, tmp_path: Path, workers: int, parts: int
) -> None:
    plan = make_plan(Generated(split="test", clips=30), 4)
    packed(plan, tmp_path / "again", workers, parts)
    assert contents(tmp_path / "again") == contents(once)


def killed_at(event: int, delay: float, out: Path, *words: str | Path) -> bool:
    """Run `cacl pack` with a death at its `event`-th file operation; return whether it came to that."""
    doom = {"DOOM_FOLDER": str(out), "DOOM_EVENT": str(event), "DOOM_DELAY": str(delay)}
    environment = {**os.environ, **doom, "PYTHONPATH": str(DOOM)}
    done = cacl("pack", *words, "--out", out, env=environment, start_new_session=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(once: Path, tmp_path: Path) -> None:
    """Every run dies a few file operations later than the one before, until one gets to the end."""
    out, draw = tmp_path / "killed", random.Random(7)
    event, delay, deaths = 1, 0.0, 0
    while killed_at(event, delay, out, *GENERATED):
        complete = {path.name for path in out.glob("shard-*")}
        assert all((out / name).read_bytes() == (once / name).read_bytes() for name in complete)
        deaths += 1
        event += draw.randint(1, 4)
        # Later also at some moment of the work after the operation: a half-written tar, an encoding.
        delay = draw.choice((0.0, draw.uniform(0, 0.05))) if deaths >= 5 else 0.0
    assert deaths >= 5, "the first operations of a packing are always reached"
    assert contents(out) == contents(once)


def test_a_merge_killed_at_any_operation_goes_on_to_the_same_bytes(once: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    pack(make_plan(Generated(split="test", clips=30), 4), out)
    event = 7
    while killed_at(event, 0.0, out, "merge"):
        event += 1
    assert event > 7 and contents(out) == contents(once)


def test_killing_one_worker_from_outside_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    plan = make_plan(Fragile(dies_once=("clip-05",), memory=tmp_path / "memory"), 5)
    manifest = packed(plan, tmp_path / "out", workers=2)
    assert [shard.missing for shard in manifest.shards] == [(), (), ()]


def test_a_file_that_crashes_its_decoder_is_one_rejected_clip(tmp_path: Path) -> None:
    """DALI #5489: a corrupt video was a segmentation fault, and the end of the run."""
    plan = make_plan(Fragile(dies=("clip-03", "clip-11"), broken=("clip-06",)), 5)
    manifest = packed(plan, tmp_path, workers=2)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(line["id"], line["file"], line["reason"]) for line in lines] == [
        ("clip-03", "", "crashed the decoder: SIGSEGV"),
        ("clip-06", "clip-06.mp4", "broken: by design"),
        ("clip-11", "", "crashed the decoder: SIGSEGV"),
    ]
    assert [shard.missing for shard in manifest.shards] == [(3,), (6,), (11,)]


def test_a_file_that_hangs_its_decoder_is_one_rejected_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TIME_LIMIT", 5.0)
    manifest = packed(make_plan(Fragile(hangs=("clip-01",)), 12), tmp_path)
    assert manifest.shards[0].missing == (1,)
    assert "timed out" in (tmp_path / "rejected.jsonl").read_text()


def test_rejected_clips_leave_gaps_and_nothing_is_renumbered(tmp_path: Path) -> None:
    source = Fragile(broken=("clip-00", "clip-04", "clip-05"))
    packed(make_plan(source, 2), tmp_path)
    store = open_store(tmp_path)
    assert store.indices.tolist() == [1, 2, 3, 6, 7, 8, 9, 10, 11]
    for index in store.indices:
        annotation = json.loads(store.read(index)["json"])
        assert (annotation["index"], annotation["id"]) == (index, source.ids()[index])
    with pytest.raises(UserError, match="clip 4 is not stored"):
        store.read(4)


def test_a_shard_without_clips_is_still_a_shard(tmp_path: Path) -> None:
    packed(make_plan(Fragile(broken=("clip-04", "clip-05")), 2), tmp_path)
    store = open_store(tmp_path)
    assert [len(shard) for shard in store.shards] == [2, 2, 0, 2, 2, 2]


def test_too_many_rejected_clips_end_the_run_and_a_higher_limit_goes_on(tmp_path: Path) -> None:
    plan = make_plan(Fragile(broken=tuple(f"clip-{k:02d}" for k in range(3))), 4)
    with pytest.raises(
        UserError, match=r"rejected\.jsonl: 3 of 12 clips are rejected, more than --max-rejected 0.1"
    ):
        pack(plan, tmp_path, max_rejected=0.1)
    assert not (tmp_path / "manifest.json").exists()
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 3
    pack(plan, tmp_path, max_rejected=0.25)
    assert merge(plan.head, tmp_path, 0.25).shards[0].nsamples == 1


def test_a_merge_allows_what_its_parts_were_allowed(tmp_path: Path) -> None:
    """A cluster's merge job is told nothing but the folder."""
    plan = make_plan(Fragile(broken=("clip-00", "clip-05", "clip-11")), 4)
    for turn, limit in ((1, 0.1), (2, 0.1), (3, 0.25)):
        pack(plan, tmp_path, part=(turn, 3), max_rejected=limit)
    refused = cacl("pack", "merge", "--out", tmp_path, "--max-rejected", "0.1")
    assert refused.returncode == 2 and "3 of 12 clips are rejected" in refused.stderr
    assert cacl("pack", "merge", "--out", tmp_path).returncode == 0


def test_packing_what_is_packed_checks_it(once: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in once.rglob("*")}
    done = cacl("pack", *GENERATED, "--out", once)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in once.rglob("*")}
    again = cacl("pack", "merge", "--out", once)
    assert again.returncode == 0, again.stderr


def test_another_packing_into_the_same_folder_is_refused(once: Path) -> None:
    done = cacl("pack", *GENERATED, "--seed", "1", "--out", once)
    assert done.returncode == 2
    assert "packed with another parameters (seed: 0 there, 1 asked for)" in done.stderr


def test_damage_is_found(once: Path, tmp_path: Path) -> None:
    plan = make_plan(Generated(split="test", clips=30), 4)
    for name, data in contents(once).items():
        (tmp_path / name).write_bytes(data)
    shard = tmp_path / "shard-000003.tar"
    damaged = bytearray(shard.read_bytes())
    damaged[5000] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(UserError, match=r"shard-000003.tar: is damaged"):
        check_packed(plan, tmp_path)


@pytest.mark.parametrize("name", ["shard-000002.idx", "shard-000002.tar"])
def test_packing_again_reads_every_byte_of_shards_and_of_their_index_files(tmp_path: Path, name: str) -> None:
    """A changed byte leaves the size as it was; every clip of an index that lies would be another one."""
    plan = make_plan(Classed(classes=("a",) * 12), 4)
    packed_here(plan, tmp_path / "out")
    assert check_packed(plan, tmp_path / "out") == check_bytes(tmp_path / "out")
    path = tmp_path / "out" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for look in (lambda: check_packed(plan, tmp_path / "out"), lambda: check_bytes(tmp_path / "out")):
        with pytest.raises(UserError, match=rf"{name}: is damaged \(its sha256 differs\)"):
            look()


def test_a_packing_that_goes_on_makes_again_what_is_not_whole(tmp_path: Path) -> None:
    """A cut tar, a tar that grew, a cut index, a missing tar, a torn entry: beside one that is whole."""
    plan = make_plan(Classed(classes=("a", "b") * 6, broken=(3,)), 2)
    packed_here(plan, tmp_path / "whole")
    out = tmp_path / "out"
    write_shards(plan, out)
    os.truncate(out / "shard-000000.tar", 5000)
    with (out / "shard-000001.tar").open("ab") as file:
        file.write(bytes(512))
    os.truncate(out / "shard-000002.idx", 10)
    (out / "shard-000003.tar").unlink()
    os.truncate(out / WORK / "000004.json", 10)
    kept = (out / "shard-000005.tar").stat().st_mtime_ns
    assert [number for number in range(6) if read_entry(out, number)] == [5]
    pack(plan, out)
    merge(plan.head, out)
    assert contents(out) == contents(tmp_path / "whole")
    assert (out / "shard-000005.tar").stat().st_mtime_ns == kept


@pytest.mark.parametrize(("ids", "rejected"), [(12, 1), (12, 3), (20, 1), (49, 1), (100, 29), (100, 57)])
def test_exactly_the_allowed_share_may_be_rejected(tmp_path: Path, ids: int, rejected: int) -> None:
    """A limit is written as a decimal: 29 of 100 are not more than 0.29, though 0.29 * 100 is below 29."""
    plan = make_plan(Classed(classes=("a",) * ids, broken=tuple(range(rejected))), ids)
    write_shards(plan, tmp_path)
    share, less = rejected / ids, (rejected - 0.5) / ids
    with pytest.raises(UserError, match=rf"{rejected} of {ids} clips are rejected, more than --max-rejected"):
        merge(plan.head, tmp_path, less)
    assert merge(plan.head, tmp_path, share).shards[0].nsamples == ids - rejected


def test_one_clip_over_the_allowed_share_ends_the_packing(tmp_path: Path) -> None:
    plan = make_plan(Classed(classes=("a",) * 12, broken=(0, 1)), 4)
    with pytest.raises(UserError, match=r"2 of 12 clips are rejected, more than --max-rejected 0\.1 "):
        pack(plan, tmp_path, max_rejected=0.1)


def test_ids_that_are_unsorted_or_stand_twice_are_not_packed() -> None:
    """A clip's index is its place among the sorted ids; two of one id would be two clips."""

    class Named(Classed):
        def ids(self) -> list[str]:
            return list(self.classes)

    for ids in (("a", "b", "b"), ("b", "a")):
        with pytest.raises(RuntimeError, match="not sorted or not unique"):
            make_plan(Named(classes=ids))
    assert make_plan(Named(classes=("a", "b"))).ids == ["a", "b"]


def test_a_full_disk_is_one_clear_error_that_loses_nothing(once: Path, tmp_path: Path) -> None:
    # A limit on the size of files makes the kernel refuse to write, as a full disk does.
    out = tmp_path / "full"

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))

    full = cacl("pack", *GENERATED, "--shard-size", "7", "--out", out, preexec_fn=no_room)
    assert full.returncode == 2
    message = full.stderr.strip().splitlines()[-1]
    assert "File too large" in message and "what is finished is kept" in message
    assert not list(out.glob("shard-*.tar"))
    assert cacl("pack", *GENERATED, "--shard-size", "7", "--out", out).returncode == 0


def test_a_really_full_disk(once: Path, tmp_path: Path) -> None:
    """A file system of 3 MB; with more room the packing goes on where it stopped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small tmpfs mount needs root")
    try:
        full = cacl("pack", *GENERATED, "--out", disk / "out")
        assert full.returncode == 2 and "Traceback" not in full.stderr
        message = full.stderr.strip().splitlines()[-1]
        assert "No space left on device; what is finished is kept" in message, message
        finished = sorted((disk / "out").glob("shard-*.tar"))
        assert finished and all(path.read_bytes() == (once / path.name).read_bytes() for path in finished)
        before = {path: path.stat().st_mtime_ns for path in finished}
        subprocess.run(["mount", "-o", "remount,size=30m", disk], check=True)
        assert cacl("pack", *GENERATED, "--out", disk / "out").returncode == 0
        assert contents(disk / "out") == contents(once)
        assert {path: path.stat().st_mtime_ns for path in finished} == before, (
            "a finished shard is not made again"
        )
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_input_error_is_not_a_broken_clip(tmp_path: Path) -> None:
    # Reading address 0 of a process is an EIO that the kernel really gives.
    for name in ("frames/a.jpg", "audio/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to("/proc/self/mem")
    done = cacl("pack", "prepared", "--root", tmp_path, "--out", tmp_path / "out", "--max-rejected", "1")
    assert done.returncode == 2
    assert "Input/output error" in done.stderr and not (tmp_path / "out/manifest.json").exists()


def test_two_processes_do_not_pack_the_same_part(tmp_path: Path) -> None:
    import fcntl

    plan = make_plan(Fragile(), 4)
    pack(plan, tmp_path)
    with (tmp_path / ".packing/part-1-of-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process packs this part"):
            pack(plan, tmp_path)


def test_stock_webdataset_reads_the_shards(once: Path) -> None:
    urls = [str(path) for path in sorted(once.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    store = open_store(once)
    assert [int(sample["__key__"]) for sample in samples] == store.indices.tolist()
    for sample in samples:
        assert sample["jpg"].shape == (224, 224, 3)
        assert sample["wav"] == store.read(int(sample["__key__"]))["wav"]


def test_the_index_files_are_those_of_dali(once: Path, tmp_path: Path) -> None:
    """It deals samples to ranks by them (DALI #6203); they are the bytes that its own tool writes."""
    from wds2idx import IndexCreator

    for tar in sorted(once.glob("*.tar")):
        with IndexCreator(str(tar), str(tmp_path / "theirs"), verbose=False) as creator:
            creator.create_index()
        assert (tmp_path / "theirs").read_text() == tar.with_suffix(".idx").read_text()


def test_the_tar_holds_no_date_and_no_owner(once: Path) -> None:
    import tarfile

    with tarfile.open(once / "shard-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_arguments_are_checked(tmp_path: Path) -> None:
    for words, sentence in [
        (["generated", "--part", "4/3"], "argument --part: '4/3' is not K/N"),
        (["generated", "--shard-size", "0"], "argument --shard-size: '0' is not a whole number of 1 or more"),
        (["generated", "--shard-size", "2000000"], "--shard-size: 2000000 is not in 1 to 1000000"),
        (["generated", "--max-rejected", "5"], "argument --max-rejected: '5' is not a share from 0 to 1"),
        (["generated", "--frame-quality", "100"], "--frame-quality: 100 is not in 1 to 95"),
        (["generated", "--seconds", "nan"], "argument --seconds: 'nan' is not a number of 0 or more"),
        (["generated", "--seconds", "4000"], "--seconds: 4000 is not in 0.01 to 3600"),
        (["prepared", "--root", str(tmp_path / "none")], "is not a folder"),
    ]:
        done = cacl("pack", *words, "--out", tmp_path / "out")
        assert done.returncode == 2 and sentence in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_sounds_have_the_exact_length(once: Path) -> None:
    import io

    import soundfile

    for index in open_store(once).indices[:5]:
        audio, rate = soundfile.read(io.BytesIO(open_store(once).read(index)["wav"]), dtype="int16")
        assert (rate, audio.shape, audio.dtype) == (16000, (48000,), np.int16)


def test_the_environment_does_not_reach_the_fingerprint(once: Path, tmp_path: Path) -> None:
    assert os.sep not in json.dumps(json.loads((once / "manifest.json").read_text())["parameters"])
