"""Time and memory where a data set has 200,000 clips and a training a million logged steps.

    python -m benchmarks.growth --json [--clips 200000] [--steps 1000000]

Each row runs in a process of its own. `ours` is seconds of the clock, `processor_seconds` what the processor
spent; `peak_mb` is the most memory that the process held, `above_mb` how much of it came after its imports
and what it starts from, `load` how many processes wanted a core of the machine in the minute before its end.
What is large is made, not measured: shards that hold annotations alone, drawn labels and maps, losses of
chance. Rows:

- `open`: the store of all shards
- `order-batch`, `order-epoch`: batches of 1,920 clips in 24 lanes
- `audit`: beside a list of 5,158 ids
- `label-join`: a table of 309 classes, read and joined to every batch of an epoch
- `measure`: maps of 7×7 by the protocol `vggss`, all numbers and their intervals; no model runs
- `compare`: two such runs
- `report`: the page of one, with the losses of all steps, without pictures
- `runs`: the runs listed
- `resume`: the log cut back by 500 steps
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.tables import Rows, growth_table
from cacl.annotation import Annotation, SoundSource
from cacl.evaluation import results
from cacl.evaluation.measure import measure
from cacl.evaluation.protocols import Protocol, get_protocol
from cacl.evaluation.protocols.base import Truths
from cacl.evaluation.systems import measure_maps
from cacl.labels.table import LabelHeader, LabelTable
from cacl.runs.directory import Run
from cacl.types import Batch
from cacl.viewing.report import Page, write_report
from cacl.world import World
from launch.jobs.audit import audit
from launch.jobs.compare import compare
from launch.jobs.report import losses, read_evaluation
from launch.jobs.runs import list_runs
from shards.annotation import write_annotation
from shards.manifest import Manifest, Shard, digest, shard_name
from shards.order import Lanes
from shards.store import open_store, write_index
from shards.writer import TarWriter

Work = Callable[[], object]
SHARD, BATCH, TESTED, CLASSES, UNIT = 100, 1920, 5158, 309, 64
PROTOCOL = get_protocol("vggss")


def clip_id(index: int) -> str:
    """Return an id of the form of VGG-Sound's, ascending with the index."""
    return f"{index:07d}abcd_{30:06d}"


def annotation(index: int) -> Annotation:
    """Return one box of a clip, drawn by its index."""
    x, y, width, height = np.random.default_rng(index).random(4) * (0.5, 0.5, 0.4, 0.4)
    box = (float(x), float(y), float(x + 0.1 + width), float(y + 0.1 + height))
    return Annotation(clip_id(index), index=index, sources=(SoundSource(f"class {index % CLASSES}", (box,)),))


# What the rows start from; it is made before they are timed.


def make_shards(folder: Path, clips: int) -> None:
    """Write shards whose clips have an annotation and nothing else, a list of ids, and labels."""
    folder.mkdir()
    shards = []
    for number in range(-(-clips // SHARD)):
        name, places = shard_name(number), {}
        with TarWriter(folder / name) as tar:
            for index in range(number * SHARD, min((number + 1) * SHARD, clips)):
                places[index] = tar.add(index, {"json": write_annotation(annotation(index))})
        text = write_index(places)
        hashed = hashlib.sha256(text.encode()).hexdigest()
        shard = Shard(name, len(places), tar.size, tar.sha256, (), len(text), hashed)
        (folder / shard.index_url).write_text(text)
        shards.append(shard)
    ids = [clip_id(index) for index in range(clips)]
    manifest = Manifest("made", {}, clips, digest(ids), SHARD, tuple(shards), {})
    (folder / "manifest.json").write_text(manifest.to_json())
    (folder / "tested.txt").write_text("\n".join(ids[:: max(1, clips // TESTED)]) + "\n")
    random = np.random.default_rng(0)
    every, label = np.arange(clips), random.integers(CLASSES, size=clips)
    header = LabelHeader("drawn", "", manifest.fingerprint, CLASSES)
    LabelTable(every, label, random.random(clips, dtype=np.float32), header).write(folder / "labels.parquet")


def make_log(run: Path, steps: int) -> None:
    """Write a run whose log has a line of 600 bytes for each step, and a validation every 1,000."""
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("data: {}\n")
    random = np.random.default_rng(0)
    parts = {f"part_{number}_of_a_step": 0.0123456789 for number in range(15)}
    with Run(run).log_file.open("w") as log:
        for step in range(1, steps + 1):
            loss = 5 + random.standard_normal()
            line = {"step": step, "epoch": 0, "loss": loss, "clips_per_second": 1234.5, "seconds": parts}
            log.write(json.dumps(line) + "\n")
            if step % 1000 == 0:
                log.write(json.dumps({"step": step, "validation": {"recall_at_1": 0.5}}) + "\n")


def make_rival(runs: Path) -> None:
    """Write the results of a second run: the first one's, each of the clip before."""
    record = results.read_record(runs / "first")
    model = results.read_clips(runs / "first", "vggss")["model"]
    columns = {name: np.roll(values, 1) for name, values in model.columns.items()}
    results.write(runs / "second", record, {"model": replace(model, columns=columns)})


# The rows: each returns the work that is timed.


def opening(folder: Path, clips: int, steps: int) -> Work:
    """Open the store and name every clip."""
    return lambda: open_store(folder / "shards").indices


def order_batch(folder: Path, clips: int, steps: int) -> Work:
    """Compute one batch."""
    order = Lanes().order(open_store(folder / "shards").shards, min(BATCH, clips // 48 * 24), 0)
    return lambda: order.batch(0, 1)


def order_epoch(folder: Path, clips: int, steps: int) -> Work:
    """Compute every batch of an epoch."""
    order = Lanes().order(open_store(folder / "shards").shards, min(BATCH, clips // 48 * 24), 0)
    return lambda: [order.batch(0, batch) for batch in range(order.batches_per_epoch)]


def auditing(folder: Path, clips: int, steps: int) -> Work:
    """Find the clips that a list of tested ids has."""
    shards = folder / "shards"
    return lambda: audit(shards, [shards / "tested.txt"])


def label_join(folder: Path, clips: int, steps: int) -> Work:
    """Read the labels and join them to every batch of an epoch."""
    store = open_store(folder / "shards")

    def work() -> None:
        labels = LabelTable.load(folder / "shards/labels.parquet", store.fingerprint)
        for index in torch.from_numpy(store.indices).split(BATCH):
            labels.clips(index, torch.ones(len(index), dtype=torch.bool))

    return work


def measuring(folder: Path, clips: int, steps: int) -> Work:
    """Measure drawn maps and write the evaluation."""

    def system(images: Tensor, waveforms: Tensor, truths: Truths, by: Protocol) -> dict[str, Tensor]:
        return measure_maps(torch.rand(len(images), 7, 7) * 2 - 1, truths, by)

    def batches(indices: np.ndarray) -> Iterator[Batch]:
        for index in torch.from_numpy(indices).split(UNIT):
            pixels, sound = torch.zeros(len(index), 3, 1, 1), torch.zeros(len(index), 1)
            notes = [annotation(one) for one in index.tolist()]
            yield Batch(index, pixels, sound, torch.ones(len(index), dtype=torch.bool), notes)

    def work() -> None:
        found = measure({"model": system}, PROTOCOL, np.arange(clips), batches, folder / "parts", {}, World())
        subject = results.Subject(PROTOCOL, "made", "none", [])
        results.write(folder / "runs/first", results.summarize(subject, found), found)

    torch.manual_seed(0)
    return work


def comparing(folder: Path, clips: int, steps: int) -> Work:
    """Compare two runs."""
    runs = folder / "runs"
    return lambda: compare([runs / "first"], [runs / "second"])


def reporting(folder: Path, clips: int, steps: int) -> Work:
    """Write a run's page."""
    run = folder / "runs/first"

    def work() -> None:
        evaluation = read_evaluation(run, results.read_record(run))
        write_report(run / "report.html", evaluation, PROTOCOL, Page(losses(Run(run)), {}, 16000))

    return work


def resuming(folder: Path, clips: int, steps: int) -> Work:
    """Cut the log back, as a training that is resumed does."""
    return lambda: Run(folder / "runs/first").truncate_log(steps - 500)


def listing(folder: Path, clips: int, steps: int) -> Work:
    """List the runs."""
    return lambda: list_runs(folder / "runs")


ROWS = {
    "open": opening,
    "order-batch": order_batch,
    "order-epoch": order_epoch,
    "audit": auditing,
    "label-join": label_join,
    "measure": measuring,
    "compare": comparing,
    "report": reporting,
    "runs": listing,
    "resume": resuming,
}


def memory_mb(name: str) -> float:
    """Return a figure of this process's memory by the kernel's name: VmRSS is now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def run_row(name: str, folder: Path, clips: int, steps: int) -> dict[str, Any]:
    """Return a row, measured in this process."""
    work = ROWS[name](folder, clips, steps)
    before, clock, processor = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    work()
    seconds, spent = time.perf_counter() - clock, time.process_time() - processor
    peak = memory_mb("VmHWM")
    return {
        "benchmark": f"growth/{name}",
        "ours": round(seconds, 3),
        "unit": "s",
        "processor_seconds": round(spent, 3),
        "peak_mb": round(peak),
        "above_mb": round(max(0.0, peak - before)),
        "load": round(os.getloadavg()[0], 1),
        "clips": clips,
        "steps": steps,
    }


def rows(clips: int, steps: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every row, each measured in a process of its own."""
    make_shards(folder / "shards", clips)
    make_log(folder / "runs/first", steps)
    for name in ROWS:
        if name == "compare":
            make_rival(folder / "runs")
        words = ["--row", name, "--folder", folder, "--clips", clips, "--steps", steps]
        command = [sys.executable, "-m", "benchmarks.growth", *map(str, words)]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        yield json.loads(printed.splitlines()[-1])


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--row", choices=ROWS, help="measure this row alone, in this process")
    parser.add_argument("--folder", type=Path, help="where what --row starts from lies")
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(run_row(arguments.row, arguments.folder, arguments.clips, arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found: Rows = []
        for row in rows(arguments.clips, arguments.steps, Path(folder)):
            found.append(row)
            if arguments.json:
                print(json.dumps(row), flush=True)
    if not arguments.json:
        print(growth_table(found))


if __name__ == "__main__":
    main()
