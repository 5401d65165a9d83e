"""Archives that Debian's packages bring: read as they are made, refused where they are not."""

from __future__ import annotations

import struct
import zlib

import pytest

from cacl.errors import UserError
from shards.scenes.resources import read_cat, read_resources


def rcc(files: dict[str, bytes]) -> bytes:
    """Qt's archive, version 1, of `resource/<file>`; every other file compressed."""
    names, contents = b"", b""
    entries = [("", 2, (1, 1)), ("resource", 2, (len(files), 2))]
    for k, (name, data) in enumerate(files.items()):
        stored = struct.pack(">I", len(data)) + zlib.compress(data) if k % 2 else data
        entries.append((name, k % 2, (0, len(contents))))
        contents += struct.pack(">I", len(stored)) + stored
    tree = b""
    for name, flags, (one, two) in entries:
        tree += struct.pack(">IH", len(names), flags)
        tree += struct.pack(">II", one, two)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    head = 20
    return (
        struct.pack(">4s4I", b"qres", 1, head, head + len(tree), head + len(tree) + len(contents))
        + tree
        + contents
        + names
    )


def cat(files: dict[str, bytes]) -> bytes:
    """OpenTTD's archive, in which names begin with words in quotes."""
    at, table, contents = 8 * len(files), b"", b""
    for name, data in files.items():
        title = f'"{name}". By nobody.'.encode() + b"\0"
        table += struct.pack("<II", (at + len(contents)) | 0x80000000, len(data))
        contents += bytes([len(title)]) + title + data
    return table + contents


FILES = {"a.ogg": b"first" * 9, "b.ogg": b"second" * 99, "c.wav": b""}


@pytest.mark.parametrize(("make", "read"), [(rcc, read_resources), (cat, read_cat)])
def test_archives_are_read_whole(make, read) -> None:
    assert read(make(FILES), "x.rcc") == FILES


@pytest.mark.parametrize(("make", "read"), [(rcc, read_resources), (cat, read_cat)])
def test_what_is_none_is_refused_in_one_sentence(make, read) -> None:
    whole = make(FILES)
    for broken in (b"", b"text", whole[:15], b"\xff" * 64, whole[:-40] if make is rcc else whole[:30]):
        with pytest.raises(UserError, match=r"^x\.rcc: is not an archive of"):
            read(broken, "x.rcc")
