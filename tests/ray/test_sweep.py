"""A whole sweep with Ray Tune on real clips: killed and restored, with a trial that crashes, to its report.

One sweep is run for all the tests, since each of its trials is a distributed training of two processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cacl.runs.directory import Run
from launch.config import load_recipe
from launch.sweeping.space import FINISHED, STOPPED

pytestmark = [pytest.mark.ray, pytest.mark.timeout(5000)]
CACL = Path(sys.executable).with_name("cacl")
RECIPE = {
    "data": {
        "train": "shards/train",
        "validation": "shards/validation",
        "order": {"name": "lanes", "lanes": 12},
        "workers": 0,
    },
    "model": {"image": {"name": "small-cnn"}},
    "optimizer": {"name": "adamw"},
    "training": {"global_batch_size": 24, "micro_batch_size": 6, "epochs": 20, "checkpoint_every": 2},
}
SPACE = {
    "vary": {"loss.temperature": [0.05, 0.5], "training.global_batch_size": [24, 48]},
    "stop": {"name": "asha", "first_step": 2, "last_step": 4, "reduction": 2},
    "objective": {"key": "validation.recall_at_5"},
    "processes": 2,
}
NAMES = [f"temperature={t},global_batch_size={b},seed=0" for t in (0.05, 0.5) for b in (24, 48)]


@dataclass
class Swept:
    """What the sweep left, and what was seen on the way."""

    out: Path
    rungs_when_killed: dict[str, float]
    rungs_at_the_end: dict[str, float]
    last_output: str


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Run the sweep: kill a rank of the first trial, then the whole sweep in the second trial, then go on."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, clips, seed in (("train", 96, 0), ("validation", 24, 1)):
        words = ["pack", "stamps", "--clips", clips, "--seed", seed, "--out", f"shards/{name}"]
        subprocess.run([CACL, *map(str, words)], cwd=folder, check=True, capture_output=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    out = folder / "sweep"
    first = start(folder)
    wait_for_validation(out / "trials" / NAMES[0], first)
    os.kill(a_rank_of(out / "trials" / NAMES[0]), signal.SIGKILL)
    wait_for_validation(out / "trials" / NAMES[1], first)
    first.kill()
    first.wait()
    killed = rungs(out)
    second = start(folder, "--resume")
    output, _ = second.communicate(timeout=1200)
    assert second.returncode == 0, output
    return Swept(out, killed, rungs(out), output)


def test_every_trial_ends_the_crashed_one_too(swept: Swept) -> None:
    for name in NAMES:
        folder = swept.out / "trials" / name
        assert (folder / FINISHED).exists() or (folder / STOPPED).exists(), name
    log = (swept.out / "trials" / NAMES[0] / "trial.log").read_text()
    assert "exitcode: -9" in log and "training from step" in log.partition("exitcode: -9")[2]
    steps = [line["step"] for line in Run(swept.out / "trials" / NAMES[0]).records() if "loss" in line]
    assert steps == sorted(set(steps)), "no step twice"


def test_a_restored_sweep_has_the_rungs_that_it_had(swept: Swept) -> None:
    assert swept.rungs_when_killed, "something had been seen before the kill"
    assert swept.rungs_when_killed.items() <= swept.rungs_at_the_end.items()
    assert len(swept.rungs_at_the_end) == len(NAMES), "every trial has its score on the first rung"


def test_nothing_that_the_sweep_kept_is_a_pickle_of_its_own(swept: Swept) -> None:
    kept = {path.name for path in swept.out.iterdir()}
    assert kept == {"sweep.json", "rungs.json", "results.json", "report.html", "best.yaml", "trials", "tune"}


def test_a_stopped_trial_had_the_lower_score_on_its_last_rung(swept: Swept) -> None:
    scores = json.loads((swept.out / "rungs.json").read_text())["scores"]
    stopped = [name for name in NAMES if (swept.out / "trials" / name / STOPPED).exists()]
    assert stopped, "of four trials, ASHA stops one at least"
    for name in stopped:
        rung = [rung for rung in scores if name in scores[rung]][-1]
        assert scores[rung][name] < max(scores[rung].values())


def test_the_report_names_the_best_and_the_best_recipe_loads(swept: Swept) -> None:
    report = (swept.out / "report.html").read_text()
    assert "data:image/png;base64," in report and "heat map" in report
    results = json.loads((swept.out / "results.json").read_text())
    best = results["settings"][0]
    assert best["mean"] == max(row["mean"] for row in results["settings"] if row["mean"] is not None)
    recipe = load_recipe(swept.out / "best.yaml", [])
    assert recipe.loss.temperature == best["setting"]["loss.temperature"]
    assert recipe.training.global_batch_size == best["setting"]["training.global_batch_size"]


def test_a_finished_sweep_is_not_started_over(swept: Swept) -> None:
    assert not (swept.out / "requeue").exists()
    done = start(swept.out.parent)
    output, _ = done.communicate(timeout=120)
    assert done.returncode == 2 and "holds a sweep already; go on with it by --resume" in output


def test_a_cluster_that_runs_already_is_used(swept: Swept) -> None:
    folder = swept.out.parent
    space = {
        **SPACE,
        "vary": {"loss.temperature": [0.05]},
        "fixed": {"training.epochs": 1},
        "stop": {"name": "never"},
    }
    (folder / "one.yaml").write_text(yaml.safe_dump(space))
    words = ["tiny.yaml", "--space", "one.yaml", "--out", "elsewhere", "--resume", "--address"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    nobody = subprocess.run([CACL, "sweep", *words, address], cwd=folder, capture_output=True, text=True)
    assert nobody.returncode == 2 and f"--address {address}: no Ray cluster answers there" in nobody.stderr
    port = address.rpartition(":")[2]
    options = ["--head", "--block", "--port", port, "--num-cpus", "2", "--include-dashboard", "false"]
    head = subprocess.Popen([CACL.with_name("ray"), "start", *options], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(int(port)), 120, "Ray's head")
        done = subprocess.run([CACL, "sweep", *words, address], cwd=folder, capture_output=True, text=True)
    finally:
        head.terminate()
        head.wait()
    assert done.returncode == 0, done.stderr
    assert "best recipe: cacl train" in done.stdout and (folder / "elsewhere/best.yaml").exists()
    # Ray remembers the ended cluster as this machine's; a sweep without an address asks nothing of it.
    words = ["tiny.yaml", "--space", "one.yaml", "--out", "here", "--cpus", "2"]
    done = subprocess.run([CACL, "sweep", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_another_space_is_refused(swept: Swept) -> None:
    (swept.out.parent / "space.yaml").write_text(yaml.safe_dump({**SPACE, "seeds": [1]}))
    done = start(swept.out.parent, "--resume")
    output, _ = done.communicate(timeout=120)
    assert done.returncode == 2 and "another recipe or space" in output


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Start the sweep on two processors."""
    words: list[str | Path] = [CACL, "sweep", "tiny.yaml", "--space", "space.yaml", "--out", "sweep"]
    words += ["--cpus", "2", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def rungs(out: Path) -> dict[str, float]:
    """Return the scores on ASHA's first rung, by trial."""
    return json.loads((out / "rungs.json").read_text())["scores"]["2"]


def wait_for_validation(folder: Path, sweep: subprocess.Popen[str]) -> None:
    """Wait until a trial has reported and has a checkpoint, and goes on."""

    def seen() -> bool:
        assert sweep.poll() is None, sweep.communicate()[0]
        return any("validation" in line for line in Run(folder).records()) and bool(
            list(folder.glob("checkpoints/step-*"))
        )

    wait_until(seen, 1500, f"a validation of {folder.name}")


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Poll until `condition()`."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {timeout} s"
        time.sleep(0.2)


def is_listening(port: int) -> bool:
    """Say whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_of(folder: Path) -> list[int]:
    """Return the training processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if {"launch.main", "train"} <= set(words) and any(word.startswith(str(folder)) for word in words):
            found.append(int(process.name))
    return found


def a_rank_of(folder: Path) -> int:
    """Return one rank of a trial: a process that has RANK."""
    for pid in processes_of(folder):
        if b"\0RANK=" in Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError(f"no rank of {folder}")
