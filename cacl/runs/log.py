"""The log of a training, train.jsonl: a line a step (with `loss`) or a validation. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cacl.files import write_text


def append(file: Path, record: dict[str, Any]) -> None:
    """Add one line."""
    with file.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole; none if there is no file."""
    records = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def truncate(file: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a torn last line."""
    if file.exists():
        kept = [line for line in read(file) if line["step"] <= step]
        write_text(file, "".join(json.dumps(line) + "\n" for line in kept))
