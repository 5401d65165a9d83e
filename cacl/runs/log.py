"""The log of a training, train.jsonl: a line a step (with `loss`), a validation or a remark.

Needs no torch.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from cacl.errors import Remark
from cacl.files import write_text


def append(file: Path, record: dict[str, Any]) -> None:
    """Add one line."""
    with file.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole; none if there is no file.

    Warns of damaged ones, but for the last: it is torn where a training was killed.
    """
    records, damaged = _read(file)
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (" …" if len(damaged) > 5 else "")
        warnings.warn(f"{file}: damaged lines are passed over: {numbers}", Remark, 2)
    return records


def truncate(file: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a torn last line; keep a damaged file as it was beside it."""
    if not file.exists():
        return
    records, damaged = _read(file)
    if damaged:
        kept = file.with_name(f"{file.name}.damaged")
        shutil.copyfile(file, kept)
        warnings.warn(f"{file}: line {damaged[0]} is damaged; the file as it was is now {kept}", Remark, 2)
    write_text(file, "".join(json.dumps(line) + "\n" for line in records if line["step"] <= step))


def _read(file: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return whole lines, and the numbers of the others, from 1, less that of a torn last line."""
    records: list[dict[str, Any]] = []
    damaged: list[int] = []
    if not file.exists():
        return records, damaged
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            record = _record(line)
            if record is not None:
                records.append(record)
            elif line.strip() and line.endswith(b"\n"):
                damaged.append(number)
    return records, damaged


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
