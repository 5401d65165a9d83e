"""Promises 7 and 8 over a real network: two namespaces as two nodes, the link cut in the middle of a step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cacl.runs import checkpoint
from tests.launch.tiny import cacl, write_recipe
from tests.training.jobs import steps

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]
TIMEOUT, LAST = 20.0, 40
NAMES = ("cacl-n0", "cacl-n1")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def link():
    """Two nodes, 10.78.0.1 and 10.78.0.2, with one cable between them."""
    try:
        for name in NAMES:
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a network namespace needs root: mount needs root")
    try:
        ip(
            "link",
            "add",
            "eth0",
            "netns",
            NAMES[0],
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            NAMES[1],
        )
        for number, name in enumerate(NAMES):
            ip("-n", name, "addr", "add", f"10.78.0.{number + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False)


def start(rank: int, recipe: Path, run: Path) -> tuple[subprocess.Popen, Path]:
    """Start one rank in its node, as SLURM would."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": "eth0"}
    place |= {"MASTER_ADDR": "10.78.0.1", "MASTER_PORT": "29541", "OMP_NUM_THREADS": "1"}
    command = ["ip", "netns", "exec", NAMES[rank], sys.executable, "-m", "launch.main", "train", str(recipe)]
    command += ["--run-dir", str(run), "--resume", "--max-steps", str(LAST)]
    output = Path(tempfile.mkstemp(suffix=".txt")[1])
    with output.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | place), output


def train(recipe: Path, run: Path) -> list[tuple[subprocess.Popen, Path]]:
    return [start(rank, recipe, run) for rank in range(2)]


def test_a_cut_link_ends_the_job_within_its_timeout_and_it_goes_on(tmp_path, link):
    data = tmp_path / "data"
    words = ["--clips", "72", "--shard-size", "6", "--frame-side", "48"]
    assert cacl("pack", "generated", "--out", str(data), *words).returncode == 0
    training = {"checkpoint_every": 3, "epochs": 100, "distributed_timeout": TIMEOUT}
    recipe = write_recipe(tmp_path, data, training=training)
    whole, run = tmp_path / "whole", tmp_path / "run"
    for process, output in train(recipe, whole):
        assert process.wait(300) == 0, output.read_text()

    ranks = train(recipe, run)
    try:
        while len(steps(run)) < 5:
            assert all(process.poll() is None for process, _ in ranks), ranks[0][1].read_text()
            time.sleep(0.01)
        ip("-n", NAMES[1], "link", "set", "eth0", "down")
        began = time.monotonic()
        codes = [process.wait(TIMEOUT + 60) for process, _ in ranks]
        assert time.monotonic() - began < TIMEOUT + 15
        said = "".join(output.read_text() for _, output in ranks)
        assert all(codes), said
        assert "the network between them" in said or "lost contact with another rank" in said, said
        ip("-n", NAMES[1], "link", "set", "eth0", "up")
    finally:
        for process, _ in ranks:
            process.kill()
            process.wait()
    newest = checkpoint.latest_valid(run / "checkpoints")
    assert newest is not None and 3 <= checkpoint.read_state(newest)["step"] <= len(steps(run)) < LAST
    for process, output in train(recipe, run):
        assert process.wait(300) == 0, output.read_text()
    assert steps(run) == steps(whole)
