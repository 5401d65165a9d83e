"""Whatever a server sends, an answer is bounded in bytes and in time, and too much of it is one sentence."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Iterator

import pytest

from cacl.errors import UserError
from shards.cache import Cache
from shards.remote import RemoteFiles, UnreachableError
from tests.shards.servers import MEGABYTE

UNREAD = 32 * MEGABYTE
"""What may be under way when a connection is closed: the buffers of two sockets."""


@pytest.fixture
def files(server, tmp_path):
    return RemoteFiles(server.url, Cache(tmp_path / "cache", 100 * MEGABYTE), first_pause=0.01)


def test_a_shard_without_end_is_read_no_further_than_its_size(server, files):
    wanted = server.put("shard-000000.tar", 200_000)
    server.instead = itertools.repeat(bytes(MEGABYTE), 1000)
    with pytest.raises(UserError, match=rf"{server.url}/shard-000000.tar: .* more than 200000 bytes"):
        files.local(*wanted)
    assert len(server.requests) == 1 and server.sent < UNREAD


def test_a_manifest_without_end_is_read_no_further_than_its_limit(server, files, monkeypatch):
    monkeypatch.setattr("shards.remote.LARGEST_TEXT", MEGABYTE)
    server.put("manifest.json", 10)
    server.instead = itertools.repeat(bytes(MEGABYTE), 1000)
    with pytest.raises(UserError, match=rf"{server.url}/manifest.json: .* more than {MEGABYTE} bytes"):
        files.read("manifest.json")
    assert len(server.requests) == 1 and server.sent < UNREAD


@pytest.mark.parametrize("read", ["manifest", "shard"])
def test_packed_answers_are_not_unpacked(server, files, read):
    """A megabyte of gzip may be a gigabyte; it is not asked for, and whoever sends it is named."""
    wanted = server.put("shard-000000.tar", 2 * MEGABYTE)
    server.instead, server.headers = [gzip.compress(bytes(64 * MEGABYTE))], {"Content-Encoding": "gzip"}
    with pytest.raises(UserError, match=r"shard-000000.tar: comes in the Content-Encoding gzip"):
        files.read(wanted[0]) if read == "manifest" else files.local(*wanted)


def test_an_object_store_s_longer_file_is_refused(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("shards.remote.LARGEST_TEXT", 1000)
    bucket.put_object(Bucket="clips", Key="long/manifest.json", Body=bytes(1001))
    bucket.put_object(Bucket="clips", Key="long/small.json", Body=bytes(1000))
    files = RemoteFiles("s3://clips/long", Cache(tmp_path, MEGABYTE), first_pause=0.01)
    assert files.read("small.json") == bytes(1000)
    with pytest.raises(UserError, match=r"s3://clips/long/manifest.json: .* more than 1000 bytes"):
        files.read("manifest.json")


def test_a_server_that_drips_is_one_sentence_in_time(server, files, monkeypatch):
    """It is never silent for long, and would take hours: the whole answer has an end."""
    monkeypatch.setattr("shards.ask._ANSWER_SECONDS", 0.7)
    monkeypatch.setattr("shards.remote._PATIENCE", 1.0)

    def drips() -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.05)
            yield b"0"

    wanted = server.put("shard-000000.tar", 1000)
    server.instead = drips()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"shard-000000.tar: could not be read in [1-9] attempts"):
        files.local(*wanted)
    assert time.monotonic() - began < 10
