"""List the runs of a folder, newest first, or lay some of them side by side: what differs, what came out.

    cacl runs
    cacl runs --compare runs/demo runs/mine

The folder is runs/ unless another one is named.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from launch.as_json import as_json
from launch.table import align
from launch.verbs.arguments import add_json_argument

_SHOWN = ("peak_in_box", "ciou", "auc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("folder", nargs="?", default="runs", help="where the runs lie (default: runs)")
    parser.add_argument("--compare", nargs="+", metavar="RUN", help="lay these runs side by side")
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> None:
    """Print a table."""
    from launch.jobs.runs import lay_side_by_side, list_runs

    if arguments.compare:
        columns = lay_side_by_side(arguments.compare)
        print(as_json(columns) if arguments.json else side_by_side(columns))
    else:
        rows = list_runs(arguments.folder)
        print(as_json(rows) if arguments.json else listing(rows))


def listing(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line a run."""
    lines = [f"{'run':<36}{'step':>8}{'loss':>9}{'ranks':>6}{'clips/s':>9}  measured"]
    for name, row in rows.items():
        wanted = [key for key in row if key.split(".")[-1] in (*_SHOWN, "recall_at_1")]
        measured = ", ".join(f"{key} {row[key]:.3f}" for key in wanted if row[key] is not None)
        cells = [_cell(row[key]) for key in ("step", "loss", "world_size", "clips_per_second")]
        lines.append(
            f"{name:<36}{cells[0]:>8}{cells[1]:>9}{cells[2]:>6}{cells[3]:>9}  "
            + "; ".join(part for part in (measured, row["state"]) if part)
        )
    return "\n".join(lines)


def side_by_side(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the keys in which the columns differ, one line each."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    values = {key: [column.get(key) for column in columns.values()] for key in keys}
    differing = [key for key, row in values.items() if any(value != row[0] for value in row)]
    return "\n".join(align(["", *columns], [[key, *map(_cell, values[key])] for key in differing]))


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
