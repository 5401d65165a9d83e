"""Break the product in one place after another and report which breaks the named tests do not notice.

    python -m tests.mutants            # all of them, as `make test-mutants` does
    python -m tests.mutants ema clamp  # those whose names contain one of the words

Works on copies of the tree; each break is run alone. Exits 1 where a break survives.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import ROOT, Mutant, load_mutants

_BUILT = {".git", ".venv", ".cache", ".hypothesis", ".mypy_cache", ".ruff_cache", "data", "runs", "build"}
"""What lies at the root and is no part of the product."""
_FAILED = 1
"""Pytest's exit code when tests ran and failed; a break that cannot be imported has another one."""


def copy_tree(to: Path) -> Path:
    """Copy the working tree without what is built or downloaded; return `to`."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {"__pycache__"} | (_BUILT if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, to, ignore=left_out)
    return to


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in a copy until the first failure; return pytest's exit code and the end of its output."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    # No byte code: a break of the same length within the same second would run as the file it replaced.
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def verdict_on(mutant: Mutant, folder: Path) -> str:
    """Break the copy, run the mutant's tests, mend it; return "" where they failed, else what happened."""
    path = folder / mutant.file
    text = path.read_text()
    path.write_text(mutant.broken(text))
    try:
        code, output = run_tests(folder, mutant.tests)
    finally:
        path.write_text(text)
    if code == _FAILED:
        return ""
    return (
        "survived" if code == 0 else f"pytest ended with {code}, which says nothing of the tests:\n{output}"
    )


def main() -> int:
    """Run the chosen breaks, as many at once as there are cores."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only breaks whose folder and name contain one of these")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = [m for m in load_mutants() if not arguments.words or any(w in str(m) for w in arguments.words)]
    if not mutants:
        parser.error(f"no break is called so: {' '.join(arguments.words)}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for worker in range(arguments.workers):
            free.put(copy_tree(Path(temporary) / str(worker)))

        def judge(mutant: Mutant) -> str:
            folder = free.get()
            try:
                verdict = verdict_on(mutant, folder)
            finally:
                free.put(folder)
            print(f"{'SURVIVED' if verdict else 'killed'}  {mutant}", flush=True)
            return verdict

        named = sorted({test for mutant in mutants for test in mutant.tests})
        code, output = run_tests(Path(temporary) / "0", named)
        if code:
            print(f"the tests fail without any break:\n{output}", file=sys.stderr)
            return 1
        with ThreadPoolExecutor(arguments.workers) as pool:
            verdicts = list(pool.map(judge, mutants))
    survivors = [(mutant, verdict) for mutant, verdict in zip(mutants, verdicts, strict=True) if verdict]
    for mutant, verdict in survivors:
        print(f"\n{mutant}\n  {mutant.file}: {mutant.find!r} → {mutant.replace!r}\n  {verdict}")
    minutes = (time.monotonic() - start) / 60
    print(
        f"\n{len(mutants)} breaks, {len(survivors)} survive, {minutes:.1f} minutes on {arguments.workers} workers"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
