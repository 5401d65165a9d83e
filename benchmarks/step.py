"""What the trainer costs beside the mathematics: its step and loop, a second rank, a checkpoint, the start.

    python -m benchmarks.step --json
    python -m benchmarks.step --json --only overhead,checkpoint --batch 8 --side 160

Fixed model (the ResNet-18 pair), fixed batch, float32, AdamW, one thread a process. Rows:
`step/overhead`: seconds of a step of `cacl.training.trainer.train` beside a bare loop of prepare, forward,
loss, backward and optimizer on the same tensors, segments of both in turns in one process (at least 0.95);
processor seconds beside, for a machine that does other work too.
`step/ranks=2`: clips a second of two ranks beside two independent processes side by side, in turns in the
same two processes (at least 0.95).
`step/checkpoint`: seconds of a step beside those of one that follows a save, its copy to the host and its
writer's thread included (at least 1/1.1).
`step/start-up`: seconds from a fresh interpreter to the end of the first step, in parts, nothing compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from cacl.loss import LossOptions, global_loss
from cacl.model.localizer import Localizer
from cacl.training.engines import DDP
from cacl.training.engines.ddp import DDPEngine
from cacl.training.optimization import AdamW
from cacl.training.options import TrainingOptions
from cacl.types import Batch, ClipLabels
from cacl.world import World
from launch.jobs.bench_training import batch_of, log_of_steps, pair

LOSS = LossOptions()
OPTIMIZER = AdamW()


def model() -> Localizer:
    """The paper's pair of ResNet-18."""
    return Localizer(pair(), LOSS.scalars()).train()


def join_labels(index: torch.Tensor, valid: torch.Tensor) -> ClipLabels:
    """Every clip is a class of its own."""
    return ClipLabels(index, index, torch.ones(len(index)), valid)


def train_steps(
    engine: DDPEngine, batch: Batch, steps: int, checkpoint_every: int = 10**9
) -> list[dict[str, Any]]:
    """Take steps by the trainer in a run directory of its own; return its log, with processor seconds."""
    marks: list[float] = []

    def repeated() -> Iterator[Batch]:
        while True:
            marks.append(time.process_time())
            yield batch

    world = engine.world
    size = len(batch.index)
    options = TrainingOptions(
        global_batch_size=size * world.size, micro_batch_size=size, checkpoint_every=checkpoint_every
    )
    records = log_of_steps(engine, repeated(), LOSS, options, steps)
    # From one fetch to the next; the last step, which has none after it, ends in a checkpoint.
    spent = [later - earlier for earlier, later in itertools.pairwise(marks)]
    for record, seconds in zip(records, spent, strict=False):
        record["processor_seconds"] = seconds
    return records


def bare(engine: DDPEngine, batch: Batch, steps: int) -> list[tuple[float, float]]:
    """Take the same steps by prepare, forward, loss, backward, optimizer alone.

    Returns wall and processor seconds of each.
    """
    module, optimizer = engine.module, OPTIMIZER.build(engine.module.named_parameters())
    clips, seconds = join_labels(batch.index, batch.valid), []
    for step in range(steps):
        started, spent = time.perf_counter(), time.process_time()
        embeddings = module(*module.prepare(batch.images, batch.waveforms))
        global_loss(embeddings, clips, LOSS, World(), step).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append((time.perf_counter() - started, time.process_time() - spent))
    return seconds


def row(name: str, ours: list[float], reference: list[float], unit: str, **more: Any) -> dict[str, Any]:
    """Medians, their ratio (above 1: ours is better) and the spread (interquartile range over median)."""
    mine, other = statistics.median(ours), statistics.median(reference)
    ratio = mine / other if unit == "clips/s" else other / mine
    spread = {"spread": quartiles(ours) / mine, "reference_spread": quartiles(reference) / other}
    values = {"ours": mine, "reference": other, "unit": unit, "ratio": ratio, **spread}
    return {
        "benchmark": name,
        **{k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()},
        "threads": 1,
        **more,
    }


def quartiles(values: list[float]) -> float:
    """Return the interquartile range."""
    low, _, high = statistics.quantiles(values, n=4)
    return high - low


def overhead(batch: Batch, repeats: int) -> dict[str, Any]:
    """Segments of five steps of each side in turns; the first and the last step of each are left out."""
    engine = DDP().build(model(), OPTIMIZER, World())
    ours: list[tuple[float, float]] = []
    reference: list[tuple[float, float]] = []
    for _ in range(repeats):
        lines = train_steps(engine, batch, 5)[1:-1]
        ours += [(line["step_seconds"], line["processor_seconds"]) for line in lines]
        reference += bare(engine, batch, 5)[1:-1]
    (wall, processor), (bare_wall, bare_processor) = zip(*ours, strict=True), zip(*reference, strict=True)
    by_processor = row("", list(processor), list(bare_processor), "s")
    more = {f"processor_{name}": by_processor[name] for name in ("ours", "reference", "ratio", "spread")}
    return row("step/overhead", list(wall), list(bare_wall), "s", batch=len(batch.index), **more)


def checkpoint(batch: Batch, repeats: int) -> dict[str, Any]:
    """Every fourth step ends in a save; the step after it has the writer beside it."""
    engine = DDP().build(model(), OPTIMIZER, World())
    lines = train_steps(engine, batch, 4 * repeats + 3, checkpoint_every=4)[1:]
    busy = [line["step_seconds"] for line in lines if line["step"] % 4 == 1]
    quiet = [line["step_seconds"] for line in lines if line["step"] % 4 in (3, 0)]
    return row("step/checkpoint", busy, quiet, "s", batch=len(batch.index))


def _rank(rank: int, store: str, clips: int, side: int, repeats: int, answers: Any) -> None:
    """Be one of two processes: in turns a rank of two, and alone beside the other."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    batch = batch_of(clips, side)
    together, alone = (DDP().build(model(), OPTIMIZER, world) for world in (World(rank, 2), World()))
    seconds: dict[str, list[float]] = {"together": [], "alone": []}
    for number in range(repeats + 1):
        for name, engine in (("together", together), ("alone", alone)):
            dist.barrier()
            started = time.perf_counter()
            train_steps(engine, batch, 3)
            dist.barrier()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    if rank == 0:
        answers.put(seconds)
    dist.destroy_process_group()


def two_ranks(batch: Batch, repeats: int) -> dict[str, Any]:
    """Whole trainings of three steps and one checkpoint each, timed from outside."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    clips, side = len(batch.index), batch.images.shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"{folder}/store", clips, side, repeats, answers)
        processes = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(2)]
        for process in processes:
            process.start()
        seconds = answers.get(timeout=1800)
        for process in processes:
            process.join()
    rates = {name: [3 * 2 * clips / value for value in values] for name, values in seconds.items()}
    return row("step/ranks=2", rates["together"], rates["alone"], "clips/s", batch=2 * clips)


START = """
import json, time
marks = [("start", time.time())]
def mark(name): marks.append((name, time.time()))
import torch
mark("import torch")
import benchmarks.step as step
from launch.jobs.data import open_data
mark("import the rest")
torch.set_num_threads(1)
engine = step.DDP().build(step.model(), step.OPTIMIZER, step.World())
mark("model and optimizer")
batch = step.batch_of(CLIPS, SIDE)
step.train_steps(engine, batch, 1)
mark("first step and its checkpoint")
print(json.dumps(marks))
"""


def start_up(batch: Batch, repeats: int) -> dict[str, Any]:
    """Fresh interpreters, the parts' medians."""
    program = START.replace("CLIPS", str(len(batch.index))).replace("SIDE", str(batch.images.shape[-1]))
    parts: dict[str, list[float]] = {}
    totals = []
    for _ in range(repeats):
        began = time.time()
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        marks = [("", began), *json.loads(answer.stdout.splitlines()[-1])]
        for (_, before), (name, after) in itertools.pairwise(marks):
            parts.setdefault("interpreter" if name == "start" else name, []).append(after - before)
        totals.append(marks[-1][1] - began)
    split = {name: round(statistics.median(values), 3) for name, values in parts.items()}
    return {
        "benchmark": "step/start-up",
        "ours": round(statistics.median(totals), 3),
        "unit": "s",
        "threads": 1,
        "split": split,
    }


ROWS: dict[str, Callable[[Batch, int], dict[str, Any]]] = {
    "overhead": overhead,
    "ranks=2": two_ranks,
    "checkpoint": checkpoint,
    "start-up": start_up,
}


def main() -> None:
    """Print one line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", default=",".join(ROWS), help="rows, by commas")
    parser.add_argument("--batch", type=int, default=8, help="clips of a process")
    parser.add_argument("--side", type=int, default=224, help="pixels of an image's side")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch = batch_of(arguments.batch, arguments.side)
    for name in arguments.only.split(","):
        found = ROWS[name](batch, max(2, arguments.repeats))
        print(json.dumps(found) if arguments.json else found, flush=True)


if __name__ == "__main__":
    main()
