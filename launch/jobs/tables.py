"""Label tables next to their shards: where they lie, and the classes that the clips are annotated with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cacl.errors import UserError
from cacl.labels.table import LabelTable
from shards.store import Store


@dataclass(frozen=True)
class TableFile:
    """A label table and the file that holds it."""

    path: Path
    table: LabelTable
    is_new: bool = True
    """False if the file was there already."""


def figures(written: TableFile) -> dict[str, Any]:
    """Return where a table is and what it holds, as plain values."""
    table = written.table
    used = len(set(table.label[table.label >= 0].tolist()))
    counts = {"clips": len(table.index), "classes": table.header.classes, "classes_used": used}
    return {"path": written.path, "is_new": written.is_new, **counts}


def table_path(data: str | Path, out: str | Path | None, name: str) -> Path:
    """Return where a table is written: `out`, or DIR/labels/<name>.parquet."""
    if out is None and "://" in str(data):
        raise UserError(f"{data}: --out: shards at a URL are not written to; name the table's file by --out")
    return Path(out) if out else Path(data) / "labels" / f"{name}.parquet"


def true_classes(store: Store, indices: Iterable[int]) -> list[str] | None:
    """Return the annotated class of every clip, None unless every clip has one. For reports only."""
    classes = [store.annotation(int(index)).class_name for index in indices]
    return classes if all(classes) else None
