"""Shards from real servers (HTTP that drops connections, S3) through a cache: verified, limited, kill-safe."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cacl.errors import UserError
from shards.cache import Cache
from shards.remote import ATTEMPTS, RemoteFiles, UnreachableError, default_cache
from tests.shards.servers import MEGABYTE


@pytest.fixture
def files(server, tmp_path):
    return RemoteFiles(server.url, Cache(tmp_path / "cache", 10 * MEGABYTE), first_pause=0.01)


def stored(files: RemoteFiles) -> dict[str, int]:
    sizes = {}
    for path in files.cache.folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # a part is renamed while it is looked at
            if path.is_file():
                sizes[path.name] = path.stat().st_size
    return sizes


def ask_time(path: Path, seconds: float) -> None:
    """Have `path` asked for at this time; its content stays compared."""
    os.utime(path, (seconds, path.stat().st_mtime))


def test_a_file_is_fetched_once_and_verified(server, files):
    wanted = server.put("shard-000000.tar", MEGABYTE)
    first = files.local(*wanted)
    assert first.read_bytes() == server.files["shard-000000.tar"]
    assert files.local(*wanted) == first
    assert len(server.requests) == 1
    assert files.read("shard-000000.tar") == server.files["shard-000000.tar"]


@pytest.mark.parametrize("drop_every", [2, 3])
def test_dropped_connections_are_survived(server, files, drop_every):
    server.drop_every = drop_every
    wanted = server.put("shard-000000.tar", 3 * MEGABYTE + 17)
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]


def test_a_line_that_only_carries_small_answers_still_makes_progress(server, files):
    server.drop_after = 300_000
    wanted = server.put("shard-000000.tar", 2 * MEGABYTE)
    files.cache.folder.mkdir(parents=True, exist_ok=True)
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]


def test_a_busy_server_is_asked_again_with_growing_pauses(server, files):
    wanted = server.put("shard-000000.tar", 1000)
    server.refuse = 4
    start = time.monotonic()
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]
    assert time.monotonic() - start > 0.5 * 0.01 * (1 + 2 + 4 + 8)


def test_a_server_without_ranges(server, files):
    server.ranges = False
    wanted = server.put("shard-000000.tar", 2 * MEGABYTE)
    part = files.cache.folder / f"{wanted[1][:16]}-shard-000000.tar.{wanted[2]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.files["shard-000000.tar"][:1000])
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]


def test_a_dead_server_is_an_input_output_error_that_names_the_file(tmp_path):
    files = RemoteFiles("http://127.0.0.1:9", Cache(tmp_path, MEGABYTE), first_pause=0.001)
    with pytest.raises(OSError, match=rf"127.0.0.1:9/shard-000000.tar: .* {ATTEMPTS} attempts"):
        files.local("shard-000000.tar", "0" * 64, 10)


def test_missing_and_changed_files_are_the_users_to_repair(server, files):
    with pytest.raises(UserError, match=r"shard-000001.tar: is missing; upload it again"):
        files.local("shard-000001.tar", "0" * 64, 10)
    name, _, size = server.put("shard-000000.tar", 1000)
    with pytest.raises(UserError, match=r"shard-000000.tar: is not what the manifest says"):
        files.local(name, "0" * 64, size)
    assert all(name.endswith(".part") for name in stored(files)), "unverified bytes stand under a name"


def test_an_unknown_protocol_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="nosuch"):
        RemoteFiles("nosuch://bucket", Cache(tmp_path, MEGABYTE))


def test_bad_bytes_of_a_killed_process_are_fetched_again(server, files):
    wanted = server.put("shard-000000.tar", MEGABYTE)
    part = files.cache.folder / f"{wanted[1][:16]}-shard-000000.tar.{wanted[2]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]


def test_the_folder_never_holds_more_than_its_limit(server, files):
    files = RemoteFiles(server.url, Cache(files.cache.folder, 3 * MEGABYTE), first_pause=0.01)
    wanted = [server.put(f"shard-{number:06d}.tar", MEGABYTE + number) for number in range(7)]
    for number, file in enumerate(wanted):
        path = files.local(*file)
        assert path.read_bytes() == server.files[file[0]]
        assert sum(stored(files).values()) <= 3 * MEGABYTE
        os.utime(path, (number, number))  # asked for long ago, the first the longest
    assert [re.sub("^[0-9a-f]*-", "", name) for name in sorted(stored(files), key=lambda n: n[-8:])] == [
        "shard-000005.tar",
        "shard-000006.tar",
    ]


def test_what_was_asked_for_again_stays_longer_than_what_was_not(server, files):
    files = RemoteFiles(server.url, Cache(files.cache.folder, 2 * MEGABYTE), first_pause=0.01)
    first, second, third = (server.put(f"shard-{number:06d}.tar", MEGABYTE - number) for number in range(3))
    for number, file in enumerate((first, second)):
        ask_time(files.local(*file), number)
    again = files.local(*first)
    ask_time(again, again.stat().st_atime - 10)  # past the grace of an asker
    files.local(*third)
    assert sorted(name[-8:] for name in stored(files)) == ["0000.tar", "0002.tar"]


def test_data_sets_share_a_cache_though_their_shards_are_named_alike(server, files):
    """Every data set has a shard-000000.tar, and the next version of one may even have its size."""
    for seed in range(2):
        data = np.random.default_rng(seed).bytes(1000)
        server.files["shard-000000.tar"] = data
        path = files.local("shard-000000.tar", hashlib.sha256(data).hexdigest(), len(data))
        assert path.read_bytes() == data
    assert len(stored(files)) == 2


def test_a_file_larger_than_the_limit_is_refused(server, tmp_path):
    files = RemoteFiles(server.url, Cache(tmp_path, 1000))
    with pytest.raises(UserError, match=r"limited to 1000 bytes and .* has 2000; raise CACL_CACHE_GIGABYTES"):
        files.local(*server.put("shard-000000.tar", 2000))


def test_processes_and_threads_share_one_download(server, files):
    server.pause = 0.3
    wanted = server.put("shard-000000.tar", MEGABYTE)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=files.local, args=wanted) for _ in range(3)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(lambda _: files.local(*wanted), range(3)))
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(paths) == 1 and len(server.requests) == 1


def test_a_killed_download_is_continued(server, files, monkeypatch):
    """SIGKILL frees the lock; what was there is not asked for again."""
    monkeypatch.setattr("shards.remote._LARGEST_RANGE", 2**18)
    server.hold_from = 4
    wanted = server.put("shard-000000.tar", 2 * MEGABYTE)
    child = multiprocessing.get_context("fork").Process(target=files.local, args=wanted)
    child.start()
    assert server.held.wait(60)
    child.kill()
    child.join()
    server.hold_from = None
    server.release.set()
    before = len(server.requests)
    (part,) = stored(files)
    done = (files.cache.folder / part).stat().st_size
    assert part.endswith(".part") and done >= 2 * 2**18
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]
    assert min(start for _, start in server.requests[before:]) == done


def test_what_a_killed_process_left_makes_room(server, tmp_path):
    cache = Cache(tmp_path, 2 * MEGABYTE)
    (tmp_path / f"dead-shard-000009.tar.{MEGABYTE + 1}.part").write_bytes(bytes(100))
    files = RemoteFiles(server.url, cache, first_pause=0.01)
    assert files.local(*server.put("shard-000000.tar", MEGABYTE)).exists()
    assert len(stored(files)) == 1


def test_files_are_fetched_ahead(server, files):
    wanted = [server.put(f"shard-{number:06d}.tar", 1000 + number) for number in range(6)]
    files.prefetch(wanted)
    deadline = time.monotonic() + 20
    while len(stored(files)) < 6 or any(name.endswith(".part") for name in stored(files)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    asked = len(server.requests)
    for file in wanted:
        files.local(*file)
    assert len(server.requests) == asked == 6


def test_a_file_that_was_thrown_out_is_fetched_ahead_again(server, files):
    """Every epoch announces its shards, and a small cache has lost them meanwhile."""
    wanted = server.put("shard-000000.tar", 1000)
    deadline = time.monotonic() + 20
    for count in (1, 2):
        # Announced until it is there: a thread forgets the last announcement a moment after the file appears.
        while len(server.requests) < count or wanted[0] not in "".join(stored(files)):
            files.prefetch([wanted])
            assert time.monotonic() < deadline
            time.sleep(0.01)
        path = files.local(*wanted)
        assert len(server.requests) == count and path.exists()
        path.unlink()


def test_remote_files_can_be_sent_to_another_process(server, files):
    files.prefetch([server.put("shard-000000.tar", 1000)])
    copy = pickle.loads(pickle.dumps(files))
    assert copy.local(*server.put("shard-000001.tar", 1001)).exists()


def test_the_default_cache_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CACL_CACHE", str(tmp_path))
    monkeypatch.setenv("CACL_CACHE_GIGABYTES", "0.5")
    assert default_cache() == Cache(Path(tmp_path, "shards"), 500_000_000)
    monkeypatch.setenv("CACL_CACHE_GIGABYTES", "lots")
    with pytest.raises(UserError, match="'lots' is no number of gigabytes"):
        default_cache()


def test_s3(bucket, tmp_path):
    data = np.random.default_rng(0).bytes(3 * MEGABYTE)
    bucket.put_object(Bucket="clips", Key="train/shard-000000.tar", Body=data)
    files = RemoteFiles("s3://clips/train", Cache(tmp_path, 10 * MEGABYTE), first_pause=0.01)
    path = files.local("shard-000000.tar", hashlib.sha256(data).hexdigest(), len(data))
    assert path.read_bytes() == data
    with pytest.raises(UserError, match=r"s3://clips/train/manifest.json: is missing"):
        files.read("manifest.json")


def test_a_file_dated_in_the_future_makes_room_like_any_other(server, files):
    """Its clock was another's: it would never be old enough."""
    files = RemoteFiles(server.url, Cache(files.cache.folder, MEGABYTE + 100), first_pause=0.01)
    first, second = (server.put(f"shard-{number:06d}.tar", MEGABYTE + number) for number in range(2))
    ahead = time.time() + 3 * 3600
    os.utime(files.local(*first), (ahead, ahead))
    began = time.monotonic()
    assert files.local(*second).read_bytes() == server.files["shard-000001.tar"]
    assert time.monotonic() - began < 5


def test_where_no_room_is_made_the_wait_has_an_end(server, files, monkeypatch):
    monkeypatch.setattr("shards.cache._PATIENCE", 0.5)
    monkeypatch.setattr("shards.cache._GRACE", 600.0)
    files = RemoteFiles(server.url, Cache(files.cache.folder, MEGABYTE + 100), first_pause=0.01)
    files.local(*server.put("shard-000000.tar", MEGABYTE))
    with pytest.raises(UserError, match=r"no room for .*shard-000001.*raise CACL_CACHE_GIGABYTES"):
        files.local(*server.put("shard-000001.tar", MEGABYTE + 1))


def test_a_cached_file_that_was_cut_is_fetched_again_and_a_foreign_part_is_no_obstacle(server, files):
    wanted = server.put("shard-000000.tar", 1000)
    path = files.local(*wanted)
    os.truncate(path, 10)
    (files.cache.folder / "x.part").write_bytes(b"not ours")
    assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]


def test_a_server_that_never_answers_is_one_sentence_in_time(server, files, monkeypatch):
    """It takes the connection and is silent: each question and all of them together have an end."""
    monkeypatch.setattr("shards.ask._SILENT_SECONDS", 0.6)  # another than in other tests: fsspec keeps one
    monkeypatch.setattr("shards.remote._PATIENCE", 1.0)
    server.hold_from = 1
    wanted = server.put("shard-000000.tar", 1000)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"could not be read in [12] attempts"):
        files.local(*wanted)
    server.release.set()
    assert time.monotonic() - began < 10
    assert isinstance(pickle.loads(pickle.dumps(UnreachableError("a"))), UserError)


def test_who_may_not_read_is_not_asked_eight_times(server, files):
    server.refuse, server.refusal = 100, 403
    with pytest.raises(UserError, match="may not be read"):
        files.local(*server.put("shard-000000.tar", 1000))
    assert server.refuse == 99
