"""A cache on one machine: what lies there is compared, and real processes together never exceed its limit."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cacl.errors import Remark
from cacl.files import locked
from shards.cache import Cache
from shards.remote import RemoteFiles
from tests.shards.servers import MEGABYTE


@pytest.fixture
def files(server, tmp_path):
    return RemoteFiles(server.url, Cache(tmp_path / "cache", 10 * MEGABYTE), first_pause=0.01)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil", [flip, lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 9)]
)
def test_a_cached_file_that_was_damaged_is_fetched_again_and_said(server, files, spoil):
    wanted = server.put("shard-000000.tar", 1000)
    path = files.local(*wanted)
    spoil(path)
    with pytest.warns(Remark, match=rf"{path}: is no longer what was fetched; it is fetched again"):
        assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]
    assert len(server.requests) == 2


def test_a_cached_file_that_was_only_touched_is_compared_and_kept(server, files):
    wanted = server.put("shard-000000.tar", 1000)
    files.local(*wanted).touch()
    with warnings.catch_warnings(action="error"):
        assert files.local(*wanted).read_bytes() == server.files["shard-000000.tar"]
    assert len(server.requests) == 1


def test_what_is_fetched_ahead_is_compared_once_a_process_whatever_its_times_say(server, files):
    """A disk that loses a bit changes no time."""
    wanted = server.put("shard-000000.tar", 1000)
    path = files.local(*wanted)
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    RemoteFiles(server.url, files.cache).prefetch([wanted])
    deadline = time.monotonic() + 20
    while path.read_bytes() != server.files["shard-000000.tar"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(server.requests) == 2


def test_a_name_changes_only_while_nobody_counts(server, files):
    """Who counts the files must meet each of them, under its old name or the new one."""
    server.hold_from = 1
    wanted = server.put("shard-000000.tar", 1000)
    with ThreadPoolExecutor(1) as pool:
        path = pool.submit(files.local, *wanted)
        assert server.held.wait(20)
        with locked(files.cache.folder / "locks" / "room"):
            server.release.set()
            time.sleep(0.3)
            assert [file.suffix for file in files.cache.folder.glob("*.*")] == [".part"]
        assert path.result().suffix == ".tar"


SHARDS, PROCESSES = 12, 4


def promised(path: Path) -> int:
    """Return the bytes that a file of the cache has, or will have once it is complete."""
    return int(path.name.split(".")[-2]) if path.suffix == ".part" else path.stat().st_size


def fetch_all(files: RemoteFiles, wanted: list[tuple[str, str, int]], seed: int) -> None:
    for number in np.random.default_rng(seed).permutation(len(wanted)):
        path = files.local(*wanted[number])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted[number][1]


def test_processes_together_never_exceed_the_limit(server, files, monkeypatch):
    """There is room for 2 of 12 shards; unfinished ones count as if they were complete."""
    monkeypatch.setattr("shards.cache._GRACE", 0.1)
    monkeypatch.setattr("shards.cache._PAUSE", 0.01)
    cache = Cache(files.cache.folder, 2 * MEGABYTE + 100)
    files = RemoteFiles(server.url, cache, first_pause=0.01)
    wanted = [server.put(f"shard-{number:06d}.tar", MEGABYTE + number) for number in range(SHARDS)]
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=fetch_all, args=(files, wanted, seed)) for seed in range(PROCESSES)]
    for child in children:
        child.start()
    most = 0
    while any(child.is_alive() for child in children):
        with locked(cache.folder / "locks" / "room"):  # under it names neither appear nor change
            most = max(most, sum(map(promised, cache.folder.glob("*.tar*"))))
        time.sleep(0.001)
    assert [child.exitcode for child in children] == [0] * PROCESSES
    assert MEGABYTE < most <= cache.limit
