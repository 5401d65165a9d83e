"""Files in archives: those of Qt's resource compiler (rcc), and OpenTTD's sounds (cat).

An rcc, as GCompris has them, is a tree of directories and files, their names in UTF-16, and the contents,
each behind its length, big-endian (Qt's qresource.cpp). A cat is a table of places and lengths,
little-endian, and at each place a name behind its length, and a WAV.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from cacl.errors import UserError

_COMPRESSED, _FOLDER = 1, 2
_LIMIT = 2**28
"""Bytes of a file within."""


def read_resources(data: bytes, where: str) -> dict[str, bytes]:
    """Return the files in an rcc by their paths below `resource/`.

    Raises UserError, naming `where`, where it is none.
    """
    try:
        magic, version, tree, content, names = struct.unpack_from(">4s4I", data)
        if magic != b"qres":
            raise ValueError("it does not begin with qres")
        files = _walk(data, tree, content, names, 22 if version >= 2 else 14)
        return {path.rpartition("/resource/")[2]: found for path, found in files}
    except (ValueError, struct.error, zlib.error, RecursionError) as error:
        raise UserError(f"{where}: is not an archive of Qt's resource compiler ({error})") from None


def _walk(data: bytes, tree: int, content: int, names: int, size: int) -> Iterator[tuple[str, bytes]]:
    def visit(number: int, path: str) -> Iterator[tuple[str, bytes]]:
        at = tree + number * size
        name_at, flags = struct.unpack_from(">IH", data, at)
        here = f"{path}/{name(name_at)}" if number else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">II", data, at + 6)
            if first <= number:
                raise ValueError("its tree has a circle")
            for child in range(first, first + count):
                yield from visit(child, here)
        else:
            (offset,) = struct.unpack_from(">I", data, at + 10)
            (length,) = struct.unpack_from(">I", data, content + offset)
            raw = data[content + offset + 4 : content + offset + 4 + length]
            # Before the compressed bytes stands how many there will be.
            yield here, _inflate(raw[4:]) if flags & _COMPRESSED else raw

    def name(offset: int) -> str:
        (count,) = struct.unpack_from(">H", data, names + offset)
        return data[names + offset + 6 : names + offset + 6 + 2 * count].decode("utf-16-be")

    return visit(0, "")


def _inflate(raw: bytes) -> bytes:
    inflater = zlib.decompressobj()
    found = inflater.decompress(raw, _LIMIT)
    if not inflater.eof:
        raise ValueError(f"a file of it is cut, or over {_LIMIT} bytes")
    return found


def read_cat(data: bytes, where: str) -> dict[str, bytes]:
    """Return the WAV files in a cat by the words in quotes that their names begin with. Raises likewise."""
    try:
        (end,) = struct.unpack_from("<I", data)
        found: dict[str, bytes] = {}
        for at in range(0, end & 0x7FFFFFFF, 8):
            offset, length = struct.unpack_from("<II", data, at)
            offset &= 0x7FFFFFFF  # the highest bit says that there are names
            name = data[offset + 1 : offset + 1 + data[offset]].rstrip(b"\0").decode()
            begin = offset + 1 + data[offset]
            title = name.split('"')[1] if name.count('"') > 1 else name
            found.setdefault(title, data[begin : begin + length])
        return found
    except (ValueError, IndexError, struct.error) as error:
        raise UserError(f"{where}: is not an archive of OpenTTD's sounds ({error})") from None
