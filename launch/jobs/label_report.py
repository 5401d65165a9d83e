"""Say how good a label table is, or what differs between several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cacl.errors import UserError
from cacl.files import write_json
from cacl.labels.report import build_report, count_labels
from cacl.labels.table import LabelTable
from cacl.viewing.label_report import write_label_report
from launch.jobs.tables import table_path, true_classes
from shards.store import open_store


@dataclass(frozen=True)
class LabelReport:
    """The report of label tables."""

    page: Path
    """report.html; report.json lies next to it."""
    record: dict[str, Any]
    """What report.json holds (see `cacl.labels.report.build_report`)."""


def report_labels(
    tables: Sequence[str | Path], data: str, out: str | Path | None = None, *, batch_size: int = 128
) -> LabelReport:
    """Write report.json and report.html of tables of the shards at `data` into the folder `out`.

    The default is DIR/labels. Raises UserError for tables of other shards.
    """
    if batch_size < 2:
        raise UserError(f"--batch-size {batch_size}: pairs need 2 clips or more")
    store = open_store(data)
    paths = short_names([Path(path) for path in tables])
    loaded = {name: LabelTable.load(path, store.fingerprint) for name, path in paths.items()}
    truth = {name: true_classes(store, table.index) for name, table in loaded.items()}
    record = build_report(loaded, truth, batch_size)
    folder = Path(out) if out else table_path(data, None, "report").parent
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", record)
    write_label_report(folder / "report.html", record, count_labels(loaded, truth))
    return LabelReport(folder / "report.html", record)


def short_names(paths: list[Path]) -> dict[str, Path]:
    """Return files by their bare names if these tell them apart, else by their paths."""
    stems = {path.stem: path for path in paths}
    return stems if len(stems) == len(paths) else {str(path): path for path in paths}
