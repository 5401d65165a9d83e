"""The file of a label table: Parquet whose every column is checked; damage and odd files are a sentence.

Tables are joined, sorted and cut by other programs. What can be read rightly is, rows in any order too; for
everything else there is one sentence. Axes: `N` labeled clips, `k` or `K` columns of a list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cacl.errors import UserError, brief, shorten
from cacl.files import written

FORMAT_VERSION = 2
"""Version 1 had no checksum; it is read too."""
COLUMNS = {
    "index": pa.int64(),
    "label": pa.int64(),
    "confidence": pa.float32(),
    "soft": pa.float32(),
    "top": pa.int64(),
    "top_probability": pa.float32(),
    "probability": pa.float16(),
}
"""What a table may hold; the first three are always there, the others are lists of equal lengths."""
_SCALARS = ("index", "label", "confidence")
_METADATA = b"cacl"
_CHECKSUM = "sha256"
_LARGEST_INDEX = 10**9 - 1
"""A clip's key in the shards has nine digits."""
_MOST_ROWS, _MOST_WIDTH = 10**8, 10**5
"""More than any data set; a damaged file may claim anything."""
_AGAIN = "label again with: cacl label DIR"

Columns = dict[str, npt.NDArray[Any]]
Header = dict[str, Any]


def write_table(path: Path, header: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write columns, sorted by index, and their header with a checksum of both: complete or not at all."""
    arrays: dict[str, pa.Array] = {}
    for name, rows in columns.items():
        flat = pa.array(np.ascontiguousarray(rows).reshape(-1), COLUMNS[name])
        lists = rows.ndim == 2
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1]) if lists else flat
    text = json.dumps(
        {"format_version": FORMAT_VERSION, **header, _CHECKSUM: _checksum(header, columns)}, sort_keys=True
    )
    table = pa.table(arrays).replace_schema_metadata({_METADATA: text.encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as partial:
        pq.write_table(table, partial, write_page_checksum=True)


def read_table(path: Path) -> tuple[Header, Columns]:
    """Return header and columns of a file, its rows sorted by index.

    Raises UserError, with file, column and fix, where it is missing, no label table, damaged or changed.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such label table; write one with: cacl label DIR")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            header = _header(path, file.schema_arrow.metadata or {})
            _check_schema(path, file.schema_arrow, file.metadata.num_rows)
            table = file.read()
    except UserError:
        raise
    except Exception as error:  # Arrow has many for a damaged file: its own, of text, of numbers
        raise UserError(f"{path}: not a label table ({shorten(error)}); {_AGAIN}") from error
    columns = {name: _array(path, name, table.column(name)) for name in table.column_names}
    order = np.argsort(columns["index"], kind="stable")
    columns = {name: rows[order] for name, rows in columns.items()}
    _check_values(path, columns, header["classes"])
    checksum = header.pop(_CHECKSUM, None)
    if header.pop("format_version") > 1 and checksum != _checksum(header, columns):
        raise UserError(
            f"{path}: {_CHECKSUM}: content and header are not what was written: rows were cut or changed, or "
            f"the file is damaged; {_AGAIN}"
        )
    return header, columns


def _checksum(header: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> str:
    as_read = json.loads(json.dumps(dict(header)))  # tuples are lists there
    digest = hashlib.sha256(json.dumps(as_read, sort_keys=True).encode())
    for name, kind in COLUMNS.items():
        if name in columns:
            rows = np.ascontiguousarray(columns[name], dtype=kind.to_pandas_dtype())
            digest.update(f"{name} {rows.dtype} {rows.shape}".encode() + rows.tobytes())
    return digest.hexdigest()


def _header(path: Path, metadata: Mapping[bytes, bytes]) -> Header:
    """Return the header, with `format_version` and checksum."""
    try:
        content = json.loads(metadata[_METADATA])
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a label table: it lacks cacl's header; {_AGAIN}") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version: {brief(version)} is not known here (this cacl reads 1 to "
            f"{FORMAT_VERSION}); {_AGAIN}"
        )
    kinds = {"classifier": str, "weights": str, "fingerprint": str, "classes": int, _CHECKSUM: str}
    kinds |= {"preprocessing": dict, "parameters": dict, "format_version": int}
    optional = {"preprocessing", "parameters"} | ({_CHECKSUM} if version == 1 else set())
    for name in sorted(kinds.keys() | content.keys()):
        if name not in kinds or (name not in content and name not in optional):
            state = "unknown" if name in content else "missing"
            raise UserError(f"{path}: header: {shorten(name)}: {state}; {_AGAIN}")
        if name in content and type(content[name]) is not kinds[name]:
            raise UserError(f"{path}: header: {name}: must not be {brief(content[name])}; {_AGAIN}")
    return content


def _check_schema(path: Path, schema: pa.Schema, rows: int) -> None:
    """Raise UserError unless columns and their types are a table's, before any value is read."""
    names = schema.names
    for name in dict.fromkeys([*_SCALARS, *names]):
        if names.count(name) != 1 or name not in COLUMNS:
            state = "missing" if name not in names else "unknown" if name not in COLUMNS else "there twice"
            what = "take it out" if state != "missing" else "put it back"
            raise UserError(f"{path}: column {shorten(name)}: {state}; {what}, or {_AGAIN}")
        kind, wanted = schema.field(name).type, COLUMNS[name]
        if name not in _SCALARS:
            if not pa.types.is_fixed_size_list(kind) or not 0 < kind.list_size <= _MOST_WIDTH:
                raise UserError(
                    f"{path}: column {name}: must be lists of one length, not {shorten(kind)}; {_AGAIN}"
                )
            kind = kind.value_type
        fits = pa.types.is_integer(kind) if pa.types.is_integer(wanted) else pa.types.is_floating(kind)
        if not fits:
            raise UserError(f"{path}: column {name}: must be {wanted}, not {shorten(kind)}; {_AGAIN}")
    if rows > _MOST_ROWS:
        raise UserError(f"{path}: claims {rows} rows, more than any table has; {_AGAIN}")


def _array(path: Path, name: str, column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column [N] or [N, k]. Raises UserError for an empty cell or a number out of range."""
    kind, width = column.type, 0
    flat = column
    nulls = column.null_count
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], kind.value_type)
        nulls += flat.null_count
    if nulls:
        raise UserError(f"{path}: column {name}: {nulls} cells are empty; fill them or leave the rows out")
    try:
        values = flat.cast(COLUMNS[name]).to_numpy()
    except pa.ArrowException as error:
        raise UserError(f"{path}: column {name}: {shorten(error)}; it must fit {COLUMNS[name]}") from error
    return values.reshape(-1, width) if width else values


def _check_values(path: Path, columns: Columns, classes: int) -> None:
    """Raise UserError, with column and clip, for values that no table has. Rows are sorted by index."""
    index, label = columns["index"], columns["label"]
    _refuse(path, "index", index, (index < 0) | (index > _LARGEST_INDEX), index, "is no clip's index")
    twice = np.zeros(len(index), bool)
    twice[1:] = index[1:] == index[:-1]
    _refuse(path, "index", index, twice, index, "stands there twice")
    wrong = (label < -1) | (label >= max(classes, 0))
    _refuse(path, "label", index, wrong, label, f"is neither -1 (unknown) nor below the header's {classes}")
    for name in ("confidence", "soft", "top_probability", "probability"):
        if name in columns:
            rows = columns[name] if columns[name].ndim == 2 else columns[name][:, None]
            # Rounding of sums may leave 0..1 by a little.
            bad = np.logical_not(((rows >= -1e-5) & (rows <= 1 + 1e-5)).all(axis=1))
            shown = rows[:, 0] if rows.shape[1] == 1 else np.where(bad, np.nan, 0)
            _refuse(path, name, index, bad, shown, "is not in 0..1")


def _refuse(path: Path, name: str, index: npt.NDArray[Any], wrong: Any, shown: Any, why: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(
            f"{path}: column {name}: {shown[first]} (clip {index[first]}, {wrong.sum()} such rows) {why}; "
            f"mend or leave out these rows, or {_AGAIN}"
        )
