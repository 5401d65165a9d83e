"""Parquet files as hubs publish them: their columns, and the rows of each from any place on.

In memory are a row and a page or two of each column; many writers make a page of a whole row group. What is
damaged is told by its row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import shorten
from cacl.files import regular

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_BUFFER = 2**20
"""Bytes of a column that are read at once."""


class DamagedRows(Exception):
    """Rows cannot be read. Its message says why, without the file's name."""


@dataclass(frozen=True)
class Table:
    """What the end of a Parquet file says of it."""

    schema: pyarrow.Schema
    groups: tuple[int, ...]
    """How many rows each row group has."""

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return sum(self.groups)

    def class_names(self, column: str) -> list[str]:
        """Return the names of a column's numbers, as Hugging Face's `ClassLabel` has them; [] without."""
        try:
            note = json.loads((self.schema.metadata or {})[b"huggingface"])
            feature = note["info"]["features"][column]
            names = feature.get("feature", feature)["names"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return []
        known = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return names if known else []


def read_table(path: Path) -> Table:
    """Read the end of a Parquet file. Raises DamagedRows where it has none, and OSError."""
    with _open(path) as file:
        groups = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        return Table(file.schema_arrow, tuple(groups))


def read_column(path: Path, column: str) -> list[Any]:
    """Return a column of small values. Raises DamagedRows and OSError."""
    with _open(path) as file:
        name = column.partition(".")[0]
        batches = _batches(file, None, [column], 4096)
        return _guarded(lambda: [value for batch in batches for value in batch.column(name).to_pylist()])


class Rows:
    """Some columns of an open file, read row after row. Going back begins the row group anew."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Open a file. Raises DamagedRows and OSError."""
        self._file = _open(path)
        self._columns = list(columns)
        counts = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._ends = list(accumulate(counts))
        self._group = -1
        self._next = 0
        """The row that comes next."""
        self._batches: Iterator[Any] = iter(())
        self._broken: dict[int, tuple[int, str]] = {}
        """By row group, from which row on nothing can be had, and why."""

    def approach(self, row: int, tick: Callable[[], None]) -> None:
        """Go to a row and call `tick` on the way. Damage is left for `read` to find."""
        self._begin(row)
        try:
            while self._next < row:
                self._take()
                tick()
        except DamagedRows:
            return

    def read(self, row: int) -> Mapping[str, Any]:
        """Return a row's values by column, bytes as they are. Raises DamagedRows and OSError."""
        self.approach(row, lambda: None)
        group = self._group_of(row)
        if group in self._broken and row >= self._broken[group][0]:
            raise DamagedRows(self._broken[group][1])
        batch = self._take()
        return _guarded(lambda: {name: batch.column(name)[0].as_py() for name in batch.schema.names})

    def _group_of(self, row: int) -> int:
        return next(group for group, end in enumerate(self._ends) if row < end)

    def _begin(self, row: int) -> None:
        """Go to the beginning of a row's group, unless the row lies ahead in the one that is being read."""
        group = self._group_of(row)
        if group == self._group and row >= self._next:
            return
        self._group, self._next = group, self._ends[group - 1] if group else 0
        self._batches = _batches(self._file, [group], self._columns, 1)

    def _take(self) -> Any:
        """Return the next row as a batch, and remember damage."""
        if self._group in self._broken and self._next >= self._broken[self._group][0]:
            raise DamagedRows(self._broken[self._group][1])
        try:
            batch = next(self._batches, None)
            if batch is None:
                raise DamagedRows("the row group ends too early")
        except DamagedRows as error:
            self._broken[self._group] = (self._next, str(error))
            raise
        self._next += 1
        return batch


@lru_cache(maxsize=1)
def open_rows(path: Path, columns: tuple[str, ...]) -> Rows:
    """Return the rows of the file at `path`, the same as long as this process reads no other."""
    return Rows(path, columns)


def _open(path: Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow.parquet as parquet

    regular(path, "put the Parquet file itself there")
    return _guarded(
        lambda: parquet.ParquetFile(
            path, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True
        )
    )


def _batches(
    file: pyarrow.parquet.ParquetFile, groups: list[int] | None, columns: list[str], size: int
) -> Iterator[pyarrow.RecordBatch]:
    """Yield rows, `size` at once. Raises DamagedRows."""
    batches = _guarded(lambda: file.iter_batches(size, row_groups=groups, columns=columns, use_threads=False))
    while (batch := _guarded(lambda: next(batches, None))) is not None:
        yield batch


def _guarded(act: Callable[[], Any]) -> Any:
    """Act on a file; an error of its content, which has no number of the system's, is DamagedRows."""
    import pyarrow

    try:
        return act()
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedRows(shorten(error)) from None
    except (pyarrow.ArrowException, ValueError, MemoryError, OverflowError) as error:
        raise DamagedRows(shorten(error)) from None
