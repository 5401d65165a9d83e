"""A training as users start it, in processes of its own that a test may kill, stop and fill the disk of."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil


class Job:
    """`cacl train RECIPE --run-dir RUN ...`, ended with every process it started when the context is left."""

    def __init__(self, recipe: Path | str, run: Path, *words: str, ranks: int | None = 2) -> None:
        self.run = run
        self.output = Path(tempfile.mkstemp(suffix=".txt")[1])
        command = [sys.executable, "-m", "launch.main", "train", str(recipe), "--run-dir", str(run), *words]
        command += ["--nproc-per-node", str(ranks)] if ranks else []
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def family(self) -> list[psutil.Process]:
        """Return every process of the job, the launcher first."""
        try:
            head = psutil.Process(self.process.pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def commands(self) -> list[list[str]]:
        """Return the words of every process of the job that lives."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                found.append(process.cmdline())
        return found

    def torchrun(self) -> int:
        """Return the process id of torchrun."""
        return next(p.pid for p in self.family() if "launch.ranks" in p.cmdline())

    def rank(self, number: int) -> int:
        """Return the process id of a rank, which its heartbeat says."""
        return int(json.loads((self.run / "heartbeat" / f"rank-{number}.json").read_text())["pid"])

    def listens(self) -> bool:
        """Say whether the launcher has come to where it hears SIGTERM."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (caught,) = [line.split()[1] for line in lines if line.startswith("SigCgt")]
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def kill(self) -> None:
        """SIGKILL to every process at once, as when a node loses its power."""
        kill_at_once(self.family())
        self.process.wait()

    def until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait for `condition`; fail where the job ends before or `seconds` pass."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.002)

    def until_step(self, step: int) -> None:
        """Wait until a step is in the log."""
        self.until(lambda: len(steps(self.run)) >= step)

    def end(self, seconds: float = 300.0) -> int:
        """Return the exit code once the job has ended by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job did not end in {seconds} s:\n{self.text()}") from None

    def text(self) -> str:
        """Return what the job has printed."""
        return self.output.read_text()


def kill_at_once(family: list[psutil.Process]) -> None:
    """SIGKILL to processes of which none shall see another die: torchrun would start ranks again."""
    for process in family:
        process.suspend() if process.is_running() else None
    for process in family:
        if process.is_running():
            process.kill()


def processes_of(run: Path) -> list[psutil.Process]:
    """Return the processes that name a run or another folder, whoever their parent is by now."""
    return [one for one in psutil.process_iter(["cmdline"]) if str(run) in (one.info["cmdline"] or [])]


def steps(run: Path) -> list[float]:
    """Return the logged losses, one a step."""
    log = run / "train.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    found = []
    for line in lines:
        if line.endswith("}"):
            record = json.loads(line)
            if "loss" in record:
                found.append(record)
    return [record["loss"] for record in found]


def finish(recipe: Path | str, run: Path, *words: str, ranks: int | None = 2) -> None:
    """Resume a run to its end."""
    with Job(recipe, run, "--resume", *words, ranks=ranks) as job:
        assert job.end() == 0, job.text()
