"""What an evaluation leaves in a run directory.

- `evaluation/<name>/clips.parquet`: a row a clip and system (model, untrained, centered_box, a control …)
- `evaluation/<name>/metrics.json`: the numbers, with protocol, version, N, missing clips, data, checkpoint
- `metrics.json`: the newest evaluation's numbers, and under `evaluations` all of them by name

A name is the protocol's, followed by the options that differ from the protocol's own, such as
`vggss,upsampling=bilinear,weights=ema`: evaluations under other options never overwrite each other.

Axes: `N` clips of the test set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cacl.errors import UserError, shorten
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.compare import intervals
from cacl.evaluation.detection import detections
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS, Protocol
from cacl.evaluation.summary import breakdown, statistics
from cacl.files import locked, read_json, regular, write_json, written
from cacl.runs.directory import Run

FORMAT_VERSION = 2
_AGAIN = "delete it and evaluate again"


@dataclass(frozen=True)
class Subject:
    """What is evaluated, on what, and how."""

    protocol: Protocol
    data: str
    """Fingerprint of the test set."""
    checkpoint: str
    missing: Sequence[int | str]
    """Clips of the set without a result, rejected when packed or not to be decoded: ids of an official list,
    or indices of the source."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Those of the evaluation next to the protocol's own: weights, checkpoint, guidance …"""

    @property
    def name(self) -> str:
        """The evaluation's name in its run."""
        return evaluation_name(self.protocol, self.options)


_PLAIN = {"weights": "model", "checkpoint": "latest"}
"""Options that are no part of an evaluation's name."""


def evaluation_name(protocol: Protocol, options: Mapping[str, str]) -> str:
    """Return the protocol's name, then what differs: its own options from the registered ones, and `options`.

    `options` are those of the evaluation: weights, checkpoint, guidance …; their defaults are left out.
    """
    registered = PROTOCOLS.get(protocol.name, protocol)
    changed: dict[str, str] = {}
    if protocol.upsampling != registered.upsampling:
        changed["upsampling"] = protocol.upsampling
    if off := registered.quirks - protocol.quirks:
        changed["without"] = "+".join(sorted(off))
    changed |= {key: value for key, value in options.items() if _PLAIN.get(key) != value}
    return ",".join([protocol.name, *(f"{key}={value}" for key, value in changed.items())])


def summarize(subject: Subject, systems: Mapping[str, ClipResults]) -> dict[str, Any]:
    """Return the record of an evaluation: where it comes from, and named floats of each system."""
    protocol, model = subject.protocol, systems["model"]
    controls = CONTROLS.get(protocol.name, {})
    expected = protocol.official_clips or len(model) + len(subject.missing)
    record: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": subject.name,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "options": protocol.options(),
        "rules": {name: str(rule) for name, rule in protocol.rules.items()},
        "n": len(model),
        "share_of_set": len(model) / expected,
        "missing": list(subject.missing),
        "data": subject.data,
        "checkpoint": subject.checkpoint,
        "weights": subject.options.get("weights", _PLAIN["weights"]),
        "asked": _asked(subject),
        "ceiling": protocol.ceiling(model),
    }
    for name, results in systems.items():
        record[name] = _finite(controls.get(name, protocol).summarize(results))
    record["intervals"] = _intervals(protocol, model)
    record["main"] = {
        "name": protocol.main,
        "value": record["model"][protocol.main],
        "interval": record["intervals"].get(protocol.main),
        "rule": protocol.rule_of(protocol.main),
    }
    if protocol.has_detection:
        record["curve"] = detections(model, protocol.judged_by).summary()
    if curves := protocol.sweep(model):
        record["sweep"] = curves
    return {**record, "breakdown": breakdown(model, protocol)}


def _asked(subject: Subject) -> dict[str, str]:
    """Return what the evaluation was asked for, the quirks that are off among it."""
    registered = PROTOCOLS.get(subject.protocol.name, subject.protocol)
    off = "+".join(sorted(registered.quirks - subject.protocol.quirks))
    return {**subject.options, **({"without": off} if off else {})}


def write(run: Path, record: Mapping[str, Any], systems: Mapping[str, ClipResults]) -> None:
    """Write the files of an evaluation and bring the run's summary up to date."""
    write_files(run, record, systems)
    summary_file, lock = run / "metrics.json", run / "evaluation" / ".metrics.lock"
    with locked(lock):  # another evaluation of this run may end now
        summary = read_json(summary_file, _AGAIN) if summary_file.exists() else {}
        known = summary.get("evaluations") or {}
        write_json(summary_file, {**record, "evaluations": {**known, record["name"]: record}})
        lock.unlink(missing_ok=True)


def write_files(run: Path, record: Mapping[str, Any], systems: Mapping[str, ClipResults]) -> None:
    """Write the files of an evaluation alone, of which the run's summary says nothing."""
    folder = run / "evaluation" / record["name"]
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / "clips.parquet") as partial:
        pq.write_table(_table(record, systems), partial, write_page_checksum=True)
    write_json(folder / "metrics.json", record)


def find_evaluation(run: Path, wanted: str) -> str:
    """Return the name of the evaluation that is `wanted`: by its name, or by its protocol's alone.

    A protocol's name is the plain evaluation, or the only one by that protocol. Raises UserError that lists
    what is there.
    """
    names = sorted(path.parent.name for path in (run / "evaluation").glob("*/metrics.json"))
    if wanted in names:
        return wanted
    alike = [name for name in names if name.startswith(f"{wanted},")]
    if len(alike) == 1:
        return alike[0]
    path = run / "evaluation" / wanted / "metrics.json"
    if alike:
        raise UserError(f"{path}: there is none; name one of {'; '.join(alike)}")
    there = f"; there are {'; '.join(names)}" if names else ""
    raise UserError(f"{path}: there is none; run first: cacl evaluate --run {run} --protocol {wanted}{there}")


def read_record(run: Path, wanted: str | None = None) -> dict[str, Any]:
    """Return the record of an evaluation (see `find_evaluation`), of the newest one without a name.

    Raises UserError if the run has not been evaluated, or by a cacl of another format.
    """
    if wanted is None:
        path = run / "metrics.json"
        Run(run).check_measured()
    else:
        path = run / "evaluation" / find_evaluation(run, wanted) / "metrics.json"
    record = read_json(path, _AGAIN)
    if record.get("format_version") != FORMAT_VERSION:
        found = record.get("format_version")
        raise UserError(f"{path}: format_version is {found}, known is {FORMAT_VERSION}; evaluate again")
    if not isinstance(record.get("protocol"), str) or not isinstance(record.get("model"), dict):
        raise UserError(f"{path}: is damaged (it lacks protocol or model); {_AGAIN}")
    return {"name": record["protocol"], **record}


def read_clips(run: Path, wanted: str) -> dict[str, ClipResults]:
    """Return each system's results, sorted by index (see `find_evaluation`). Raises UserError without any."""
    path = run / "evaluation" / find_evaluation(run, wanted) / "clips.parquet"
    try:
        table = pq.read_table(regular(path, _AGAIN), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is damaged ({shorten(error)}); {_AGAIN}") from error
    names = np.array(table["system"].to_pylist())
    return {
        name: ClipResults.from_table(table.filter(pa.array(names == name)).drop_columns(["system"]))
        for name in dict.fromkeys(names.tolist())
    }


def _table(record: Mapping[str, Any], systems: Mapping[str, ClipResults]) -> pa.Table:
    tables = []
    for name, results in systems.items():
        table = results.to_table()
        tables.append(table.add_column(0, "system", pa.array([name] * len(results))))
    keys = ("format_version", "protocol", "protocol_version", "data", "checkpoint")
    header = {key: str(record[key]) for key in keys}
    return pa.concat_tables(tables, promote_options="default").replace_schema_metadata(header)


def _intervals(protocol: Protocol, results: ClipResults) -> dict[str, list[float]]:
    """Return the ends of the 95 % interval over clips of the model's numbers."""
    found = intervals(statistics([results], protocol))
    return {name: [estimate.low, estimate.high] for name, estimate in found.items()}


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN: a number that is not defined is null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
