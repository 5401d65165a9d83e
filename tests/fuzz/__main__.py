"""Fuzz every format, a process each, and write docs/reliability.md's table.

    make fuzz
    python -m tests.fuzz [--formats tar recipe] [--inputs 10000] [--seed 0] [--write docs/reliability.md]

Each process has a limit of memory. Lines are those of the readers' functions; those of the end of a module,
such as imports, ran before.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import coverage

from benchmarks.pages import put

NAMES = (
    "manifest",
    "index",
    "tar",
    "annotation",
    "label table",
    "label table by another program",
    "recipe",
    "checkpoint",
    "export",
)
MEMORY = 6 * 2**30
"""Bytes of address space of a process, of which torch has most before the first input."""


def main() -> None:
    """Fuzz in processes, or be one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", nargs="*", choices=NAMES, default=list(NAMES))
    parser.add_argument("--inputs", type=int, default=10_000, help="a format (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/fuzz"), help="where rows are kept")
    parser.add_argument("--write", type=Path, help="page, written from all rows that are kept")
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(fuzz_one(given.one, given.inputs, given.seed)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.formats:
        words = ["--one", name, "--inputs", str(given.inputs), "--seed", str(given.seed)]
        command = [sys.executable, "-m", "tests.fuzz", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: failed; the smallest input stands above")
        (given.folder / f"{name}.json").write_text(done.stdout.splitlines()[-1])
    kept = [given.folder / f"{name}.json" for name in NAMES]
    rows = [row(json.loads(file.read_text())) for file in kept if file.exists()]
    print("\n".join([*HEAD, *rows]))
    if given.write:
        put(given.write, "tests.fuzz", "\n".join([*HEAD, *rows]))


HEAD = (
    "| format | inputs | read | refused | lines of its readers | minutes |",
    "| --- | --- | --- | --- | --- | --- |",
)


def row(found: dict[str, Any]) -> str:
    """Return a line of the table."""
    return "| {name} | {inputs:,} | {read:,} | {refused:,} | {covered} of {lines} ({share:.0%}) | {minutes:.1f} |".format(
        **found
    )


def fuzz_one(name: str, examples: int, number: int) -> dict[str, Any]:
    """Fuzz one format in this process; return its row."""
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    measured = coverage.Coverage(data_file=None, source_pkgs=["cacl", "shards", "launch"])
    measured.start()  # before the readers are imported: their heads are lines too
    from tests.fuzz.formats import make_formats
    from tests.fuzz.fuzz import fuzz, outcome, write

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        form = make_formats(folder / "made")[name]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        write(form, folder / "changed")
        assert outcome(form, folder / "changed", (0, False, [])) == "read", "a whole file is refused"
        began = time.monotonic()
        counts = fuzz(form, folder / "changed", examples, number)
        minutes = (time.monotonic() - began) / 60
    measured.stop()
    lines = missed = 0
    for module in form.readers:
        _, statements, _, missing, _ = measured.analysis2(sys.modules[module])
        lines, missed = lines + len(statements), missed + len(missing)
    total = sum(counts.values())
    return {
        "name": name, "inputs": total, "read": counts["read"], "refused": counts["refused"], "lines": lines,
        "covered": lines - missed, "share": 1 - missed / lines, "minutes": minutes,
    }  # fmt: skip


if __name__ == "__main__":
    main()
