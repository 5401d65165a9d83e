"""Break the product in one place after another and report which breaks the named tests do not notice.

    python -m tests.mutants            # all of them, as `make test-mutants` does
    python -m tests.mutants ema clamp  # those whose names contain one of the words

Works on copies of the tree; each break is run alone. Exits 1 where a break survives.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import Mutant, load_mutants
from tests.mutants.running import copy_tree, run_tests, verdict_on


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
