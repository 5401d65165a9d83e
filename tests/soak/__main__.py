"""Disturb trainings, packings, labelings and evaluations, and count what came of it.

    make soak                                     # goes on where it ended
    python -m tests.soak [--folder runs/soak] [--minutes 30] [--write docs/reliability.md]

Trainings need root for disks that fill up. Every case stands in soak.jsonl, those that went wrong with what was
printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.pages import put
from tests.helpers.signals import hear_all
from tests.soak import trainings, works

KINDS: dict[str, tuple[int, Callable[[Path], None], Callable[[Path, int], dict[str, Any]]]] = {
    "training": (100, trainings.prepare, trainings.disturb),
    "packing": (60, works.PACKING.prepare, works.PACKING.disturb),
    "labeling": (30, works.LABELING.prepare, works.LABELING.disturb),
    "evaluation": (30, works.EVALUATION.prepare, works.EVALUATION.disturb),
}
"""How many of each, what is made once, and one of them."""


def main() -> int:
    """Do what is left, as long as it may take; return 1 if any went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"), help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no case later than that")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--write", type=Path, help="page whose rows are written")
    given = parser.parse_args()
    hear_all()
    given.folder.mkdir(parents=True, exist_ok=True)
    log, end = given.folder / "soak.jsonl", time.monotonic() + 60 * given.minutes
    for kind in given.kinds:
        count, prepare, disturb = KINDS[kind]
        prepare((given.folder / kind).absolute())
        known = {found["number"] for found in read(log) if found["kind"] == kind}
        for number in sorted(set(range(count)) - known):
            if time.monotonic() > end:
                break
            found = {"kind": kind, "number": number, **disturb((given.folder / kind).absolute(), number)}
            with log.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(
                kind, number, found["phase"], found["how"], "right" if found["right"] else "WRONG", flush=True
            )
    cases = read(log)
    page = table(cases)
    print(page)
    if given.write:
        put(given.write, "tests.soak", page)
    return int(not all(one["right"] for one in cases))


def read(log: Path) -> list[dict[str, Any]]:
    """Return the cases that are done."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """Return the page's rows: what was disturbed in which phase, and what came of it."""
    lines = [
        "| | disturbed | equal to the undisturbed | hung | left a process | printed a traceback, lost a signal | longest end |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, phase in dict.fromkeys((one["kind"], one["phase"]) for one in sorted(found, key=order)):
        some = [one for one in found if (one["kind"], one["phase"]) == (kind, phase)]
        counts = [
            len(some),
            sum(one["equal"] for one in some),
            sum(one["exit"] == "hangs" for one in some),
            sum(bool(one["left"]) for one in some),
            sum(not one["orderly"] for one in some),
        ]
        longest = max(one["seconds"] for one in some)
        lines.append(f"| {kind}, {phase} | {' | '.join(map(str, counts))} | {longest:.0f} s |")
    return "\n".join(lines)


def order(found: dict[str, Any]) -> tuple[int, int]:
    """Return where a case stands in the table."""
    phases = (*trainings.PHASES, *works.PHASES)
    return list(KINDS).index(found["kind"]), phases.index(found["phase"])


if __name__ == "__main__":
    raise SystemExit(main())
