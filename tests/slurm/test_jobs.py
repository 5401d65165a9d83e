"""The real job scripts on a real SLURM of two nodes: whatever disturbs a job, it ends in the same result."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from cacl.runs.directory import Run
from tests.slurm.cluster import CACL, SCRIPTS, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3000)]

RECIPE = """
data: {train: shards/train, test: shards/test, order: {name: lanes, lanes: 12}, workers: 0}
model: {image: {name: small-cnn}}
optimizer: {name: adamw}
training: {global_batch_size: 24, micro_batch_size: 6, epochs: 4, checkpoint_every: 3}
"""
STEPS = 16
ONE_RANK_A_NODE = ["--gpus-per-node", "1"]


@pytest.fixture(scope="module")
def shards(cluster: Cluster) -> Path:
    """Training clips, packed by an array of jobs and merged by one that waits for them."""
    words = ["generated", "--clips", "96", "--out", "shards/train"]
    pack = cluster.submit("--array=1-3", "--output=pack-%a.log", SCRIPTS / "pack.sbatch", *words)
    after = [f"--dependency=afterok:{pack}", "--kill-on-invalid-dep=yes"]
    merge = cluster.submit(*after, "--output=merge.log", SCRIPTS / "merge.sbatch", "--out", "shards/train")
    state = cluster.finish(merge)
    assert state == "COMPLETED", (cluster.workspace / "merge.log").read_text()
    (cluster.workspace / "tiny.yaml").write_text(RECIPE)
    return cluster.workspace / "shards/train"


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, shards: Path) -> list[float]:
    """Losses of a training on two nodes that nothing disturbs."""
    job = train(cluster, "runs/undisturbed")
    assert cluster.finish(job) == "COMPLETED", log(cluster, "runs/undisturbed")
    assert cluster.job(job)["Restarts"] == "0"
    lines = Run(cluster.workspace / "runs/undisturbed").records()
    assert [line["world_size"] for line in lines] == [2] * STEPS
    return [line["loss"] for line in lines]


@pytest.mark.short
def test_an_array_packs_the_same_bytes_as_one_process(cluster: Cluster, shards: Path) -> None:
    cluster.cacl("pack", "generated", "--clips", "96", "--out", "shards/alone", "--workers", "1")
    alone = json.loads((cluster.workspace / "shards/alone/manifest.json").read_text())
    parts = json.loads((shards / "manifest.json").read_text())
    assert parts["fingerprint"] == alone["fingerprint"]


@pytest.mark.short
def test_each_rank_has_its_log(cluster: Cluster, undisturbed: list[float]) -> None:
    logs = sorted(path.name for path in (cluster.workspace / "runs/undisturbed/logs").glob("rank-*"))
    assert logs == ["rank-0.log", "rank-1.log"]
    assert f"training from the start to step {STEPS} on 2 rank(s)" in log(cluster, "runs/undisturbed")


def test_a_warning_saves_and_requeues(cluster: Cluster, undisturbed: list[float]) -> None:
    run = "runs/warned"
    job = train(cluster, run)
    wait_for_step(cluster, run, 2)
    cluster.run("scancel", "--signal=USR1", str(job))
    assert_same_result(cluster, job, run, undisturbed)


@pytest.mark.short
def test_a_requeue_without_warning_goes_on_from_a_checkpoint(cluster, undisturbed) -> None:
    run = "runs/requeued"
    job = train(cluster, run)
    wait_for_step(cluster, run, 5)
    cluster.run("scontrol", "requeue", str(job))
    assert_same_result(cluster, job, run, undisturbed)


def test_a_lost_node_goes_on_from_a_checkpoint(cluster: Cluster, undisturbed: list[float]) -> None:
    run = "runs/lost-node"
    job = train(cluster, run)
    wait_for_step(cluster, run, 5)
    cluster.kill_node(2)
    cluster.wait(lambda: int(cluster.job(job)["Restarts"]) > 0, what="the job's return to the queue")
    cluster.restart_node(2)
    assert_same_result(cluster, job, run, undisturbed)


def test_a_cancelled_job_stays_cancelled(cluster: Cluster, undisturbed: list[float]) -> None:
    job = train(cluster, "runs/cancelled")
    wait_for_step(cluster, "runs/cancelled", 2)
    cluster.run("scancel", str(job))
    assert cluster.finish(job) == "CANCELLED"
    assert cluster.job(job)["Restarts"] == "0"


def test_an_endless_return_has_an_end(cluster: Cluster, undisturbed: list[float]) -> None:
    run = "runs/limited"
    cluster.environment["CACL_MAX_REQUEUES"] = "0"
    try:
        job = train(cluster, run)
    finally:
        del cluster.environment["CACL_MAX_REQUEUES"]
    wait_for_step(cluster, run, 2)
    cluster.run("scancel", "--signal=USR1", str(job))
    assert cluster.finish(job) == "FAILED"
    text = "".join(path.read_text() for path in (cluster.workspace / run / "logs").glob("cacl-*"))
    assert "submit it again to go on" in text


def test_gpus_are_found_and_each_gets_a_rank(cluster: Cluster, shards: Path) -> None:
    words = ["submit", "train", "tiny.yaml", "--run-dir", "runs/four", "--nodes", "2", "--gpus-per-node", "2"]
    job = number(cluster.cacl(*words, "--training.epochs", "1"))
    assert cluster.finish(job) == "COMPLETED", log(cluster, "runs/four")
    assert {line["world_size"] for line in Run(cluster.workspace / "runs/four").records()} == {4}


def test_status_shows_jobs_and_how_far_they_are(cluster: Cluster, undisturbed: list[float]) -> None:
    rows = cluster.cacl("submit", "status").splitlines()
    row = next(row for row in rows if row.endswith("runs/undisturbed"))
    assert "cacl-train-undisturbed" in row and "COMPLETED" in row and f" {STEPS} " in row


def test_the_chain_ends_in_a_measured_model(cluster: Cluster, shards: Path) -> None:
    (cluster.workspace / "chain.yaml").write_text(
        RECIPE.replace("shards/train", "chained/train").replace("shards/test", "chained/test")
    )
    out = cluster.cacl(
        "submit", "chain", "chain.yaml", "--nodes", "2", *ONE_RANK_A_NODE, "--parts", "2", "--training.epochs", "1",
        "--data.labels", "chained/train/labels/efficientnet-lite0.parquet",
        "--pack", "generated --clips 48 --out chained/train",
        "--pack", "generated --split test --clips 12 --out chained/test",
    )  # fmt: skip
    jobs = dict(re.findall(r"^(\w+): job (\d+)", out, re.M))
    assert cluster.finish(int(jobs["evaluate"])) == "COMPLETED", cluster.run("squeue", "-a", "-t", "all")
    metrics = json.loads((cluster.workspace / "runs/chain/metrics.json").read_text())
    assert "stamps" in json.dumps(metrics)
    assert len(Run(cluster.workspace / "runs/chain").records()) == 2


def test_a_chain_ends_where_a_link_fails(cluster: Cluster, shards: Path) -> None:
    folder = cluster.workspace / "broken/train"
    folder.mkdir(parents=True)
    (folder / "labels").write_text("a file where the label tables' folder should be")
    (cluster.workspace / "broken.yaml").write_text(
        RECIPE.replace(
            "{train: shards/train, test: shards/test",
            "{labels: broken/train/labels/x.parquet, train: broken/train, test: shards/train",
        )
    )
    pack = ["--parts", "1", "--pack", "generated --clips 24 --out broken/train"]
    out = cluster.cacl("submit", "chain", "broken.yaml", *ONE_RANK_A_NODE, *pack)
    jobs = {key: int(value) for key, value in re.findall(r"^(\w+): job (\d+)", out, re.M)}
    cluster.wait(lambda: cluster.state(jobs["evaluate"]) == "CANCELLED", what="the end of the chain")
    states = {key: cluster.state(job) for key, job in jobs.items()}
    assert states == {
        "pack_1": "COMPLETED",
        "merge_1": "COMPLETED",
        "label": "FAILED",
        "train": "CANCELLED",
        "evaluate": "CANCELLED",
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--partition", "nope"], "there is no partition 'nope'; name one of test"),
        (["--nodes", "3"], "--nodes 3: partition test has 2"),
        (["--time", "9-0"], "--time 9-0: partition test allows 60 minutes at most"),
        (["--gpus-per-node", "9"], "--gpus-per-node 9: a node of partition test has 8"),
    ],
)
def test_what_the_cluster_cannot_do_is_one_sentence(cluster, shards, words, sentence) -> None:
    done = cluster.attempt(CACL, "submit", "train", "tiny.yaml", *words)
    assert done.returncode == 2
    assert sentence in done.stderr and done.stderr.count("\n") == 1


def test_what_sbatch_refuses_is_one_sentence(cluster: Cluster, shards: Path) -> None:
    site = cluster.workspace / "site.sh"
    site.write_text(f"source {SCRIPTS}/site.sh\nexport SBATCH_CONSTRAINT=unheard-of\n")
    words = ["submit", "train", "tiny.yaml", *ONE_RANK_A_NODE, "--site", str(site)]
    done = cluster.attempt(CACL, *words)
    assert done.returncode == 2
    assert "sbatch refused the job" in done.stderr and done.stderr.count("\n") == 1, done.stderr


def train(cluster: Cluster, run: str) -> int:
    """Submit the training on two nodes."""
    words = ["submit", "train", "tiny.yaml", "--run-dir", run, "--nodes", "2", *ONE_RANK_A_NODE]
    return number(cluster.cacl(*words))


def number(output: str) -> int:
    """Return the job's number from what `cacl submit` printed."""
    match = re.search(r"^train: job (\d+)", output, re.M)
    assert match, output
    return int(match[1])


def log(cluster: Cluster, run: str) -> str:
    """Return what rank 0 has printed."""
    file = cluster.workspace / run / "logs/rank-0.log"
    return file.read_text() if file.exists() else "rank 0 printed nothing"


def wait_for_step(cluster: Cluster, run: str, step: int) -> None:
    """Wait until a run has logged a step."""
    records = Run(cluster.workspace / run).records
    cluster.wait(lambda: any(line["step"] >= step for line in records()), what=f"step {step} of {run}")


def assert_same_result(cluster: Cluster, job: int, run: str, losses: list[float]) -> None:
    """The job came back, ended, and every loss and weight is that of the undisturbed run, bit for bit."""
    assert cluster.finish(job) == "COMPLETED", log(cluster, run)
    assert int(cluster.job(job)["Restarts"]) >= 1
    assert "training from step" in log(cluster, run), "it went on from a checkpoint"
    assert [line["loss"] for line in Run(cluster.workspace / run).records()] == losses
    weights = {
        hashlib.sha256(
            (cluster.workspace / folder / f"checkpoints/step-{STEPS}/model.safetensors").read_bytes()
        ).hexdigest()
        for folder in (run, "runs/undisturbed")
    }
    assert len(weights) == 1
