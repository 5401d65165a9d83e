"""A sweep inside an allocation: a Ray cluster over its nodes, warned, back in the queue, to the report."""

from __future__ import annotations

import json
import re

import pytest

from cacl.runs.directory import Run
from tests.helpers.text import match_in
from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(5000)]

RECIPE = """
data: {train: shards/train, validation: shards/validation, order: {name: lanes, lanes: 12}, workers: 0}
model: {image: {name: small-cnn}}
optimizer: {name: adamw}
training: {global_batch_size: 24, micro_batch_size: 4, epochs: 75, checkpoint_every: 5}
"""
# Three ranks a trial, so that one trial fills a node of four processors.
SPACE = """
vary: {loss.temperature: [0.05, 0.5]}
objective: {key: validation.recall_at_5}
processes: 3
"""
STEPS = 150
NAMES = ["temperature=0.05,seed=0", "temperature=0.5,seed=0"]


def test_a_sweep_over_two_nodes_is_warned_and_goes_on_to_its_report(networked_cluster: Cluster) -> None:
    cluster = networked_cluster
    for name, clips, seed in (("train", 48, 0), ("validation", 24, 1)):
        cluster.cacl(
            "pack", "generated", "--clips", str(clips), "--seed", str(seed), "--out", f"shards/{name}"
        )
    (cluster.workspace / "tiny.yaml").write_text(RECIPE)
    (cluster.workspace / "space.yaml").write_text(SPACE)
    words = ["tiny.yaml", "--space", "space.yaml", "--out", "sweep", "--nodes", "2", "--gpus-per-node", "3"]
    printed = cluster.cacl("submit", "sweep", *words)
    job = int(match_in(printed, r"^sweep: job (\d+)", re.M)[1])
    sweep = cluster.workspace / "sweep"
    trials = [Run(sweep / "trials" / name) for name in NAMES]

    def both_have_begun() -> bool:
        return all(any("validation" in line for line in trial.records()) for trial in trials)

    cluster.wait(both_have_begun, what="a validation of both trials")
    hosts = {json.loads((trial.folder / "environment.json").read_text())["host"] for trial in trials}
    assert hosts == {"node1", "node2"}
    cluster.run("scancel", "--signal=USR1", str(job))
    log = "".join(path.read_text() for path in (sweep / "logs").glob("*.log"))
    assert cluster.finish(job) == "COMPLETED", log
    assert cluster.job(job)["Restarts"] == "1"

    for trial in trials:
        assert "training from step" in (trial.folder / "trial.log").read_text(), (
            "it went on from a checkpoint"
        )
        steps = [line["step"] for line in trial.records() if "loss" in line]
        assert steps == list(range(1, STEPS + 1))
    assert (sweep / "report.html").exists() and (sweep / "best.yaml").exists()
    assert not (sweep / "requeue").exists()
