"""The log of a training, train.jsonl: a line a step (with `loss`), a validation or a remark.

A log may have millions of lines: nothing but `read` holds more than one of them. Needs no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cacl.errors import Remark
from cacl.files import regular, written

_REMEDY = "put the training's log there, or take it away"
_BLOCK = 2**16
"""Bytes that are read at once from the end."""


def append(file: Path, record: dict[str, Any]) -> None:
    """Add one line."""
    with file.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole; none if there is no file. Warns as `stream` does."""
    return list(stream(file))


def stream(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole, one after the other; none if there is no file.

    Warns at the end of damaged ones, but for the last: it is torn where a training was killed.
    """
    damaged: list[int] = []
    if file.exists():
        with regular(file, _REMEDY).open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                record = _record(line)
                if record is not None:
                    yield record
                elif _is_damaged(line):
                    damaged.append(number)
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (" …" if len(damaged) > 5 else "")
        warnings.warn(f"{file}: damaged lines are passed over: {numbers}", Remark, 2)


def newest_first(file: Path, key: str) -> Iterator[dict[str, Any]]:
    """Yield the whole lines that have `key` from the last to the first; none if there is no file.

    What is not asked for is not read. Damaged lines are passed over.
    """
    quoted = json.dumps(key).encode()
    for line in _backward(file):
        record = _record(line) if quoted in line else None  # most lines need no parser
        if record is not None and key in record:
            yield record


class Follower:
    """Reads what a log has got since the last look.

    A training that is resumed drops lines and takes their steps again: the log is read from its beginning
    then, so that steps may be seen twice.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._end = 0
        self._last = b""

    def look(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines that are new; none if there is no file."""
        if not self._file.exists():
            return
        with regular(self._file, _REMEDY).open("rb") as lines:
            lines.seek(self._end - len(self._last))
            if lines.read(len(self._last)) != self._last:
                self._end, self._last = 0, b""
                lines.seek(0)
            for line in lines:
                if not line.endswith(b"\n"):  # still being written
                    return
                self._end, self._last = self._end + len(line), line
                record = _record(line)
                if record is not None:
                    yield record


def truncate(file: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a torn last line; keep a damaged file as it was beside it.

    The file is written anew only where lines are dropped before others that stay.
    """
    if not file.exists():
        return
    damaged, place, end, cut_is_enough = 0, 0, 0, True
    with regular(file, _REMEDY).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            record = _record(line)
            if record is None:
                damaged = damaged or number * _is_damaged(line)
            elif record["step"] <= step:
                cut_is_enough &= place == end and line.endswith(b"\n")
                end += len(line)
            place += len(line)
    if damaged:
        kept = file.with_name(f"{file.name}.damaged")
        shutil.copyfile(file, kept)
        warnings.warn(f"{file}: line {damaged} is damaged; the file as it was is now {kept}", Remark, 2)
    if not cut_is_enough:
        with written(file) as partial, partial.open("wb") as anew, file.open("rb") as lines:
            anew.writelines(line.rstrip(b"\n") + b"\n" for line in lines if _is_kept(line, step))
    elif end < place:
        with file.open("r+b") as lines:
            lines.truncate(end)
            os.fsync(lines.fileno())


def _backward(file: Path) -> Iterator[bytes]:
    """Yield lines without their ends, from the last to the first."""
    if not file.exists():
        return
    with regular(file, _REMEDY).open("rb") as stream:
        place = stream.seek(0, os.SEEK_END)
        pieces: list[bytes] = []  # of the line whose beginning is not read yet, the last piece first
        while place > 0:
            size = min(_BLOCK, place)
            place = stream.seek(place - size)
            first, *others = stream.read(size).split(b"\n")
            if others:
                yield others.pop() + b"".join(reversed(pieces))
                yield from reversed(others)
                pieces = []
            pieces.append(first)
        yield b"".join(reversed(pieces))


def _is_kept(line: bytes, step: int) -> bool:
    record = _record(line)
    return record is not None and record["step"] <= step


def _is_damaged(line: bytes) -> bool:
    """Say of a line that is no record whether that is damage: not a torn last line, nor an empty one."""
    return bool(line.strip()) and line.endswith(b"\n")


def _record(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None for one that is not what a training writes."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    if "validation" in record and not isinstance(record["validation"], dict):
        return None
    known = isinstance(record.get("loss"), int | float) or "validation" in record or "remark" in record
    return record if known else None
