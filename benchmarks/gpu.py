"""Ten minutes on a GPU: what `launch.jobs.bench` measures, beside what benchmarks/scale.py predicts.

    python -m benchmarks.gpu --json
    python -m benchmarks.gpu --json --only step,loss
    python -m benchmarks.gpu --device cpu --quick
    python -m benchmarks.gpu --rows rows.jsonl --write docs/gpu.md

The loss stands beside two kernels of late interaction from PyPI, where they are installed: they score all
pairs by the maximum over places, as `max` does, and InfoNCE of the scores follows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.pages import put
from benchmarks.scale import Machine, Trained, count, predict
from launch.jobs.bench import bench
from launch.jobs.bench_training import LOSS, info_nce, measure_loss, pair, vectors
from launch.jobs.environment import describe
from launch.jobs.timing import QUICK, Row, Sizes, as_json

MACHINES = {
    "A100": Machine(),
    "H100": Machine(flop_per_second=989e12 * 0.3, loss_flop_per_second=66.9e12 * 0.5),
    "H200": Machine(flop_per_second=989e12 * 0.3, loss_flop_per_second=66.9e12 * 0.5),
}
"""Assumptions of docs/scale.md, made of each card's own peaks."""


def _late_interaction(maps: Tensor, sounds: Tensor) -> Tensor:
    module = importlib.import_module("late_interaction_kernels")
    return module.maxsim(sounds, maps[:, 0], backward="unified")


def _flash(maps: Tensor, sounds: Tensor) -> Tensor:
    module = importlib.import_module("flash_maxsim")
    return module.flash_maxsim_batched_train(sounds, maps[:, 0].contiguous())


RIVALS: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "late-interaction-kernels": ("late_interaction_kernels", _late_interaction),
    "flash-maxsim": ("flash_maxsim", _flash),
}
"""Kernels by their packages: what is imported, and scores [N, N] of sounds and images."""
PATIENCE = 60.0
"""Seconds for one row of a rival."""


def rivals(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure the rivals' loss, in the precisions that they are made for.

    Each row has a process of its own: a kernel that reads where it may not leaves no GPU to what follows it
    in the same process. Where one fails, larger batches are not tried.
    """
    failed: set[tuple[str, str]] = set()
    for n in sizes.rivals:
        for rival in RIVALS:
            for precision in ("float32", "bfloat16"):
                row = _measured_apart(rival, precision, n, device, sizes, (rival, precision) in failed)
                if row.value is None:
                    failed.add((rival, precision))
                yield row


def _measured_apart(
    rival: str, precision: str, n: int, device: torch.device, sizes: Sizes, has_failed: bool
) -> Row:
    name = f"loss/{rival}/{precision}/N={n}"
    if device.type != "cuda":
        return Row(name, None, "s", more={"why": "no GPU"})
    if importlib.util.find_spec(RIVALS[rival][0]) is None:
        return Row(name, None, "s", more={"why": f"{rival} is not installed"})
    if has_failed:
        return Row(name, None, "s", more={"why": "not tried, since it failed on fewer clips"})
    words = [rival, precision, str(n), str(sizes.seconds)]
    command = [sys.executable, "-m", "benchmarks.gpu", "--rival", *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Row(name, None, "s", more={"why": f"did not end in {PATIENCE:.0f} s"})
    if answer.returncode == 0:
        return replace(Row(**json.loads(answer.stdout.splitlines()[-1])), name=name)
    errors = [line for line in answer.stderr.splitlines() if "Error" in line or "error:" in line]
    return Row(name, None, "s", more={"why": errors[0][:200] if errors else f"exit code {answer.returncode}"})


def rival_row(rival: str, precision: str, clips: str, seconds: str) -> Row:
    """Measure one rival on the first GPU, in this process."""
    device, dtype = torch.device("cuda", 0), getattr(torch, precision)
    score = RIVALS[rival][1]

    def loss(maps: Tensor, sounds: Tensor) -> Tensor:
        return info_nce(score(maps.to(dtype), sounds.to(dtype)).T)

    return measure_loss(rival, loss, *vectors(int(clips), device), float(seconds))


def predicted(one: Row, what: Trained, machine: Machine) -> dict[str, Any]:
    """Return what docs/scale.md's model says of a row, `{}` where it says nothing."""
    kind, _, rest = one.name.partition("/")
    if kind == "step":
        clips, form = rest.removeprefix("N=").split("/")
        micro = int(form.split(",")[0].removeprefix("micro="))
        step = predict(int(clips), 1, what, micro, machine)
        return {
            "predicted": round(step.seconds, 6),
            "predicted_parts": {"encoders": step.compute, "loss": step.loss},
        }
    if kind == "loss":
        return {"predicted": predict(int(rest.rpartition("=")[2]), 1, what, machine=machine).loss}
    return {}


def measure(
    device: torch.device, sizes: Sizes, only: list[str], machine: Machine
) -> Iterator[dict[str, Any]]:
    """Yield rows as plain values; a part that breaks is a row with its error, and the others go on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    yield {"benchmark": "machine", "card": name, **describe()}
    parts = {**bench(device, sizes), "rivals": lambda: rivals(device, sizes)}
    what = count(pair(), LOSS)
    for part, rows in parts.items():
        if only and part not in only:
            continue
        try:
            for one in rows():
                yield json.loads(as_json(one)) | predicted(one, what, machine)
        except Exception as error:
            traceback.print_exc()
            yield {"benchmark": part, "error": f"{type(error).__name__}: {error}"}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    head = next(row for row in rows if row["benchmark"] == "machine")
    versions = head["versions"]
    lines = [
        f"{head['card']}, torch {versions['torch']}, Python {head['python']}, {head['threads']} threads.",
        "",
    ]
    lines += ["| | measured | of | predicted | beside |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        if row is not head:
            cells = [row["benchmark"], _shown(row), row.get("unit", ""), _guess(row), _beside(row)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(row: dict[str, Any]) -> str:
    if "error" in row:
        return str(row["error"]).splitlines()[0]
    return "–" if row["ours"] is None else _number(row["ours"])


def _guess(row: dict[str, Any]) -> str:
    return _number(row["predicted"]) if "predicted" in row else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _beside(row: dict[str, Any]) -> str:
    names = {
        "clips_per_second": "clips/s",
        "share_of_peak": "of the peak",
        "memory_mib": "MiB",
        "loss": "loss",
    }
    words = [
        f"{_number(row[key])} {word}" for key, word in names.items() if key in row and row[key] is not None
    ]
    words += [f"{part} {1e3 * seconds:.1f} ms" for part, seconds in row.get("parts", {}).items()]
    return "; ".join([*words, *([row["why"]] if "why" in row else [])])


def main() -> int:
    """Print one line a row, or write those of an earlier run into a page; return 1 if a part broke."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="the same rows of less, for a processor")
    parser.add_argument(
        "--only", default="", help="parts, by commas: device, step, loss, decode, evaluate, rivals"
    )
    parser.add_argument("--rows", type=Path, help="rows of an earlier run, in place of measuring")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--rival", nargs=4, help=argparse.SUPPRESS)  # one row of `rivals`
    arguments = parser.parse_args()
    if arguments.rival:
        print(json.dumps(asdict(rival_row(*arguments.rival))))
        return 0
    if arguments.rows:
        found = [json.loads(line) for line in arguments.rows.read_text().splitlines() if line.startswith("{")]
    else:
        device = (
            torch.device(arguments.device, 0)
            if arguments.device == "cuda"
            else torch.device(arguments.device)
        )
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        machine = next((m for card, m in MACHINES.items() if card in name), Machine())
        found = []
        only = [part for part in arguments.only.split(",") if part]
        for row in measure(device, QUICK if arguments.quick else Sizes(), only, machine):
            found.append(row)
            print(json.dumps(row) if arguments.json else _line(row), flush=True)
    if arguments.write:
        put(arguments.write, "gpu", table(found))
    return 1 if any("error" in row for row in found) else 0


def _line(row: dict[str, Any]) -> str:
    if row["benchmark"] == "machine":
        return f"{row['card']}, torch {row['versions']['torch']}"
    return (
        f"{row['benchmark']:48} {_shown(row):>10} {row.get('unit', ''):8} {_guess(row):>10}  {_beside(row)}"
    )


if __name__ == "__main__":
    sys.exit(main())
