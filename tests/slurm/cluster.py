"""A real SLURM on this machine for the tests: `cluster.sh`, and the few questions that tests ask of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCRIPTS = ROOT / "slurm"
CACL = Path(sys.executable).with_name("cacl")
FINISHED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


class Cluster:
    """A controller and two nodes in `folder`; commands and jobs start in `folder`/workspace.

    With `bridge`, the name of a network bridge to be made, each node has an address and processes of its own.
    """

    def __init__(self, folder: Path, port: int = 17000, bridge: str = "") -> None:
        self.folder, self.port, self.bridge = folder, port, bridge
        self.workspace = folder / "workspace"
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("SLURM_", "SBATCH_"))
            },
            "SLURM_CONF": str(folder / "slurm.conf"),
            "CACL_VENV": str(Path(sys.executable).parent.parent),
            "CACL_SCRIPTS": str(SCRIPTS),
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> None:
        """Start the daemons and wait until every node is idle."""
        for parent in [self.folder, *self.folder.parents[:2]]:
            parent.chmod(0o755)  # munge refuses a socket in a folder that only its owner may enter
        self.workspace.mkdir()
        self._daemons("start", "2")

    def stop(self) -> None:
        """End the jobs and the daemons."""
        self._daemons("stop", "2")

    def restart_node(self, number: int) -> None:
        """Start the daemon of a node again that `kill_node` ended."""
        self._daemons("node", str(number))

    def kill_node(self, number: int) -> None:
        """Lose a node: its daemon and every process of its jobs die at once, as when the power goes."""
        daemon = int((self.folder / "pids" / f"node{number}").read_text())
        for pid in [daemon, *self._processes_of(f"node{number}")]:
            subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)

    def run(self, *command: str | Path) -> str:
        """Run a command on the login node and return what it prints; it must succeed."""
        done = self.attempt(*command)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node, whether it succeeds or not."""
        words = [str(word) for word in command]
        return subprocess.run(
            words,
            cwd=self.workspace,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def submit(self, *words: str | Path) -> int:
        """`sbatch` with these words; return the job's number."""
        return int(self.run("sbatch", "--parsable", *words).split(";")[0])

    def cacl(self, *words: str | Path) -> str:
        """Run `cacl` on the login node; it must succeed."""
        return self.run(CACL, *words)

    def job(self, number: int) -> dict[str, str]:
        """Return what `scontrol show job` says, field by field."""
        return dict(
            re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", "--oneliner", str(number)))
        )

    def state(self, number: int) -> str:
        """Return a job's state, such as RUNNING."""
        return self.job(number)["JobState"]

    def finish(self, number: int, timeout: float = 1200.0) -> str:
        """Wait for a job's end, over all its returns to the queue, and return its last state."""
        self.wait(
            lambda: self.state(number) in FINISHED and not self._returns(number), timeout, f"job {number}"
        )
        return self.state(number)

    def wait(self, condition: Callable[[], bool], timeout: float = 600.0, what: str = "condition") -> None:
        """Poll until `condition()`."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, (
                f"{what}: not after {timeout} s\n{self.run('squeue', '-a', '-t', 'all')}"
            )
            time.sleep(0.2)

    def _returns(self, number: int) -> bool:
        """Say whether a job that has just ended is back in the queue a moment later."""
        time.sleep(1.5)
        return self.state(number) not in FINISHED

    def _daemons(self, command: str, number: str) -> None:
        words = [
            "bash",
            str(HERE / "cluster.sh"),
            command,
            str(self.folder),
            number,
            str(self.port),
            self.bridge,
        ]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _processes_of(self, node: str) -> list[int]:
        """Processes of this cluster's jobs on one node."""
        wanted = {f"SLURM_CONF={self.folder / 'slurm.conf'}".encode(), f"SLURMD_NODENAME={node}".encode()}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = set((folder / "environ").read_bytes().split(b"\0"))
            except OSError:
                continue
            if wanted <= variables:
                found.append(int(folder.name))
        return found
