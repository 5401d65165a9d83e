"""What fuzzing does to a file: an edit is plain numbers, so that hypothesis shrinks it and a seed can be kept."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies

Edit = tuple[str, int, int]
"""What is done, where (modulo what there is), and with which value (modulo how many there are)."""

WORDS = [
    b"", b"null", b"true", b"false", b"0", b"-1", b"1", b"010", b"0x10", b"1:30", b"yes", b"1e999", b"-1e308", b"NaN",
    b"-Infinity", b"1000000000", b"18446744073709551616", b"9" * 5000, b"1" + b"0" * 400, b"0.1", b'""', b"''", b"[]",
    b"{}", b"[" * 3000, b"{" * 3000, b"- " * 200, b'"../x"', b"../../etc/passwd", b"/dev/zero", b"http://localhost:1/",
    b"\x1b[31m", b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"&a [*a, *a]", b"*a", b"!!python/object:os.system",
    b"a" * 70000, "é".encode(), "é\u202e".encode(), b"%s%n", b"name: max", b"---\n", b"# ",
]  # fmt: skip
"""In place of a word of a text."""

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 10**6, 10**9, 2**31, 2**63, 2**64, 10**400, 1e300, -1e308,
    float("inf"), float("nan"), "", "0", "a", "../x", "/dev/zero", "\x1b[31m", "\x00", "\ud800", "é", "a" * 70000,
    [], {}, [[]], [None], [0, 0, 1, 1], [[0, 0, 1, 1]], [[1, 1, 0, 0]], [[0, 0, 1e999, 1]], {"name": "max"}, {"": 1},
    list(range(1000)), [[0, 0, 1, 1]] * 1000,
]  # fmt: skip
"""In place of a value of JSON."""

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
"""In place of one to eight bytes."""

_WORD = re.compile(rb'"[^"\n]*"|[-+.\w]+|[][{}:,]')


def edits() -> strategies.SearchStrategy[list[Edit]]:
    """Return the strategy that draws one to four edits."""
    number = strategies.integers(0, 2**32 - 1)
    edit = strategies.tuples(strategies.sampled_from(sorted(_ACTIONS)), number, number)
    return strategies.lists(edit, min_size=1, max_size=4)


def apply(data: bytes, wanted: Sequence[Edit]) -> bytes:
    """Return `data` after all edits."""
    for action, place, value in wanted:
        data = _ACTIONS[action](data, place, value)
    return data


def _flip(data: bytes, place: int, value: int) -> bytes:
    return _set(data, place, data[place % len(data)] ^ 1 << value % 8) if data else data


def _set(data: bytes, place: int, value: int) -> bytes:
    at = place % max(len(data), 1)
    return data[:at] + bytes([value % 256]) + data[at + 1 :]


def _number(data: bytes, place: int, value: int) -> bytes:
    at, width = place % max(len(data), 1), 1 << value % 4
    number = NUMBERS[value % len(NUMBERS)] % 2 ** (8 * width)
    return data[:at] + number.to_bytes(width, "big" if value % 2 else "little") + data[at + width :]


def _cut(data: bytes, place: int, value: int) -> bytes:
    at = place % max(len(data), 1)
    return data[:at] + data[at + 1 + value % 64 :]


def _truncate(data: bytes, place: int, value: int) -> bytes:
    return data[: place % (len(data) + 1)]


def _repeat(data: bytes, place: int, value: int) -> bytes:
    at, size = place % max(len(data), 1), 1 + value % 600
    return data[: at + size] + data[at:]


def _insert(data: bytes, place: int, value: int) -> bytes:
    at = place % (len(data) + 1)
    return data[:at] + WORDS[value % len(WORDS)] + data[at:]


def _word(data: bytes, place: int, value: int) -> bytes:
    """Replace a word by an odd one, or by another of the same file."""
    words = list(_WORD.finditer(data))
    if not words:
        return data
    start, end = words[place % len(words)].span()
    others = [*WORDS, *(found.group() for found in words[:200])]
    return data[:start] + others[value % len(others)] + data[end:]


def _value(data: bytes, place: int, value: int) -> bytes:
    """Replace a value of JSON, or take it out; in what is none, a word."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return _word(data, place, value)
    holders: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        held = waiting.pop()
        pairs = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
        for key, item in pairs:
            holders.append((held, key))
            waiting.append(item)
    if not holders:
        return json.dumps(VALUES[value % len(VALUES)]).encode()
    held, key = holders[place % len(holders)]
    choice = value % (len(VALUES) + 1)
    if choice == len(VALUES):
        del held[key]
    else:
        held[key] = VALUES[choice]
    return json.dumps(content).encode()


_ACTIONS = {
    "flip": _flip,
    "set": _set,
    "number": _number,
    "cut": _cut,
    "truncate": _truncate,
    "repeat": _repeat,
    "insert": _insert,
    "word": _word,
    "value": _value,
}
