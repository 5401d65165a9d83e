"""What an evaluation leaves in a run directory.

    evaluation/<protocol>/clips.parquet  a row for each clip and system (model, untrained, centered_box ...)
    evaluation/<protocol>/metrics.json   the numbers, with protocol, version, N, missing clips, checkpoint
    metrics.json                         the newest evaluation's numbers, and all under `evaluations`

Axes: `N` clips of the test set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cacl.errors import UserError
from cacl.evaluation.protocols import CONTROLS, Columns, Protocol
from cacl.files import write_json, written

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Tested:
    """What was evaluated on what."""

    protocol: Protocol
    data: str
    """Fingerprint of the test set."""
    checkpoint: str
    missing: Sequence[int | str]
    """Clips of the set without a result, rejected when packed or not to be decoded: ids of an official list,
    or indices of the source."""


def summarize(tested: Tested, systems: Mapping[str, Columns]) -> dict[str, Any]:
    """Return the record of an evaluation: where it comes from, and named floats of each system."""
    protocol = tested.protocol
    controls = CONTROLS.get(protocol.name, {})
    n = len(systems["model"]["index"])
    expected = protocol.official_clips or n + len(tested.missing)
    record: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "options": protocol.options(),
        "n": n,
        "share_of_set": n / expected,
        "missing": list(tested.missing),
        "data": tested.data,
        "checkpoint": tested.checkpoint,
        "ceiling": protocol.ceiling(systems["model"]),
    }
    for name, columns in systems.items():
        record[name] = _finite(controls.get(name, protocol).summarize(columns))
    record["intervals"] = _intervals(protocol, systems["model"])
    record["curve"] = protocol.detections(systems["model"]).summary()
    return {**record, "breakdown": protocol.breakdown(systems["model"])}


def write(run: Path, record: Mapping[str, Any], systems: Mapping[str, Columns]) -> None:
    """Write the files of an evaluation and bring the run's summary up to date."""
    folder = run / "evaluation" / record["protocol"]
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / "clips.parquet") as partial:
        pq.write_table(_table(record, systems), partial)
    write_json(folder / "metrics.json", record)
    summary_file = run / "metrics.json"
    known = json.loads(summary_file.read_text())["evaluations"] if summary_file.exists() else {}
    write_json(summary_file, {**record, "evaluations": {**known, record["protocol"]: record}})


def read_record(run: Path, protocol: str | None = None) -> dict[str, Any]:
    """Return the record of one protocol's evaluation, of the newest one without a name.

    Raises UserError where the run has not been evaluated, or by a cacl of another format.
    """
    path = run / "evaluation" / protocol / "metrics.json" if protocol else run / "metrics.json"
    if not path.exists():
        option = f" --protocol {protocol}" if protocol else ""
        raise UserError(f"{path}: there is none; run first: cacl evaluate --run {run}{option}")
    record = json.loads(path.read_text())
    if record.get("format_version") != FORMAT_VERSION:
        found = record.get("format_version")
        raise UserError(f"{path}: format_version is {found}, known is {FORMAT_VERSION}; evaluate again")
    return record


def read_clips(run: Path, protocol: str) -> dict[str, Columns]:
    """Return the per-clip columns of each system, sorted by index. Raises UserError where there are none."""
    path = run / "evaluation" / protocol / "clips.parquet"
    if not path.exists():
        raise UserError(f"{path}: there is none; run first: cacl evaluate --run {run} --protocol {protocol}")
    table = pq.read_table(path)
    names = np.array(table["system"].to_pylist())
    systems: dict[str, Columns] = {}
    for name in dict.fromkeys(names.tolist()):
        rows = table.filter(pa.array(names == name))
        kept = [column for column in rows.column_names if rows[column].null_count < len(rows)]
        systems[name] = {c: _column(rows[c]) for c in kept if c != "system"}
    return systems


def _column(column: pa.ChunkedArray) -> np.ndarray:
    text = pa.types.is_string(column.type)
    return np.array(column.to_pylist(), dtype=str) if text else np.array(column.to_numpy())


def _table(record: Mapping[str, Any], systems: Mapping[str, Columns]) -> pa.Table:
    tables = [
        pa.table(
            {
                "system": pa.array([name] * len(columns["index"])),
                **{k: pa.array(v) for k, v in columns.items()},
            }
        )
        for name, columns in systems.items()
    ]
    keys = ("format_version", "protocol", "protocol_version", "data", "checkpoint")
    header = {key: str(record[key]) for key in keys}
    return pa.concat_tables(tables, promote_options="default").replace_schema_metadata(header)


def _intervals(protocol: Protocol, columns: Columns) -> dict[str, list[float]]:
    """Return the ends of the 95 % interval over clips of the model's numbers."""
    found = {name: statistic.interval() for name, statistic in protocol.statistics([columns]).items()}
    return {name: [estimate.low, estimate.high] for name, estimate in found.items()}


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN: a number that is not defined is null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
