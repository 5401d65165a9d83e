"""Run every benchmark of a processor, keep the rows, and write the pages that quote them.

    make bench                                  # on a machine that does nothing else: half an hour
    python -m benchmarks --only evaluate,pack   # measure these anew
    python -m benchmarks --only none            # write the pages anew, measure nothing

The rows are kept in docs/benchmarks.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages import put
from benchmarks.tables import (
    Rows,
    bytes_table,
    growth_table,
    loss_table,
    machine_line,
    packing,
    plain_table,
    tagger_table,
)

DOCS = Path("docs")
KEPT = DOCS / "benchmarks.json"
NAMES = (
    "loss", "train", "step", "evaluate", "pack", "loader", "label", "growth", "audit", "taggers", "localize",
)  # fmt: skip
OPTIONS = {"loss": ["--scores", "float32,bfloat16"]}


def machine() -> dict[str, Any]:
    """Return what a figure depends on beside the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(name: str) -> Rows:
    """Run one benchmark in a process of its own and return its rows, shown as they come."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *OPTIONS.get(name, [])]
    print("$", *command, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        rows: Rows = []
        for line in process.stdout:
            print(line, end="", flush=True)
            rows.append(json.loads(line))
    if process.returncode:
        sys.exit(f"benchmarks.{name}: ended with exit code {process.returncode}")
    return rows


def write_pages(kept: dict[str, dict[str, Any]]) -> None:
    """Write what is kept into the pages between their marks."""
    sections = []
    for name in (name for name in NAMES if name in kept):
        head = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
        table = plain_table(kept[name]["rows"])
        sections.append(f"## benchmarks.{name}\n\n{head.strip()}\n\n{machine_line(kept[name])}\n\n{table}")
    put(DOCS / "benchmarks.md", "__main__", "\n\n".join(sections))
    writers = {
        "loss": ("loss.md", lambda rows: f"{loss_table(rows)}\n\n{bytes_table(rows)}"),
        "evaluate": ("evaluation.md", plain_table),
        "pack": ("scale.md", packing),
        "loader": ("scale.md", plain_table),
        "growth": ("scale.md", growth_table),
        "audit": ("leaks.md", plain_table),
        "localize": ("localize.md", plain_table),
        "taggers": ("labels.md", tagger_table),
    }
    for name, (page, write) in writers.items():
        if name in kept:
            put(DOCS / page, name, f"{machine_line(kept[name])}\n\n{write(kept[name]['rows'])}")


def main() -> None:
    """Measure, keep and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(NAMES), help="benchmarks, by commas (default: all)")
    arguments = parser.parse_args()
    names = [] if arguments.only == "none" else arguments.only.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; choose of {', '.join(NAMES)}, or none")
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in names:
        kept[name] = {"machine": machine(), "rows": measure(name)}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    write_pages(kept)


if __name__ == "__main__":
    main()
