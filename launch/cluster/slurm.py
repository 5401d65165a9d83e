"""What `cacl submit` asks of SLURM: its partitions, `sbatch`, the queue. Every refusal is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cacl.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "slurm"
"""The job scripts: next to the package `launch` in a checkout and in an installed wheel."""


@dataclass(frozen=True)
class Partition:
    """A partition as `sinfo` shows it."""

    name: str
    nodes: int
    gpus_per_node: int
    """The fewest GPUs that one of its nodes has."""
    minutes: int | None
    """The longest a job may run; None without a limit."""


def site_environment(site: str | None) -> dict[str, str]:
    """Return the environment in which `sbatch` runs: this one with the site's settings over it.

    The settings file is `site`, else the one that CACL_SITE names, else the default beside the scripts.
    """
    file = Path(site or os.environ.get("CACL_SITE") or SCRIPTS / "site.sh").absolute()
    if not file.exists():
        raise UserError(f"{file}: there is no such file; name your site's settings by --site or CACL_SITE")
    command = ["bash", "-c", 'set -ea; source "$1"; env -0', "-", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{file}: bash cannot read it: {_sentence(done.stderr)}")
    if not done.stdout:
        raise UserError(f"{file}: it ends bash before its settings are read; take out `exit`")
    settings = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)
    return {**settings, "CACL_SITE": str(file), "CACL_SCRIPTS": str(SCRIPTS)}


def sbatch(words: list[str], environment: dict[str, str]) -> int:
    """Submit a job and return its number. Raises UserError with SLURM's reason where it is refused."""
    require("sbatch")
    done = subprocess.run(
        ["sbatch", "--parsable", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(
            f"sbatch refused the job: {_sentence(done.stderr)} (it was: sbatch {' '.join(words)})"
        )
    return int(done.stdout.strip().split(";")[0])


def scancel(jobs: list[str]) -> None:
    """Cancel jobs."""
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)


def queue() -> list[list[str]]:
    """Return this user's jobs that the controller still remembers.

    A row is [number, name, state, time, nodes, reason or node list, comment].
    """
    require("squeue")
    columns = "%i|%j|%T|%M|%D|%R|%k"
    done = subprocess.run(
        ["squeue", "--me", "--states=all", "--noheader", f"--format={columns}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"squeue: {_sentence(done.stderr)}")
    # A comment of several lines is no job of ours: its further lines have no columns.
    return [row for line in done.stdout.splitlines() if len(row := line.split("|", 6)) == 7]


def find_partition(name: str | None) -> Partition:
    """Return the partition of that name, or the default one. Raises UserError where there is none."""
    require("sinfo")
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%P|%D|%G|%l"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"sinfo: {_sentence(done.stderr)}")
    rows = [line.split("|") for line in done.stdout.splitlines()]
    wanted = [row for row in rows if (row[0].rstrip("*") == name if name else row[0].endswith("*"))]
    if not wanted:
        known = ", ".join(sorted({row[0].rstrip("*") for row in rows}))
        what = f"there is no partition {name!r}" if name else "the cluster has no default partition"
        raise UserError(f"{what}; name one of {known} by --partition or in the site's settings")
    return Partition(
        name=wanted[0][0].rstrip("*"),
        nodes=sum(int(row[1]) for row in wanted),
        gpus_per_node=min(count_gpus(row[2]) for row in wanted),
        minutes=None if wanted[0][3] == "infinite" else minutes(wanted[0][3]),
    )


def count_gpus(gres: str) -> int:
    """Return the number of GPUs in a list such as `gpu:a100:4(S:0-1),nvme:1`."""
    found = re.findall(r"\bgpu(?::[A-Za-z][\w.-]*)?:(\d+)", gres)
    return sum(map(int, found))


def minutes(time: str) -> int:
    """Return the minutes of `MM`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`, rounded up."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not match:
        raise UserError(f"--time {time}: not a time; write HH:MM:SS or D-HH:MM:SS")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None:
        numbers = {1: [0, *numbers, 0], 2: [0, *numbers], 3: numbers}[len(numbers)]
    hours, minute, second = [*numbers, 0, 0][:3]
    return (int(days or 0) * 24 + hours) * 60 + minute + (second > 0)


def answers() -> bool:
    """Say whether a cluster can be asked from this machine."""
    return shutil.which("sinfo") is not None and not subprocess.run(["sinfo"], capture_output=True).returncode


def require(program: str) -> None:
    """Raise UserError where one of SLURM's programs is missing."""
    if not shutil.which(program):
        raise UserError(
            f"{program}: not found; run this on a login node of a SLURM cluster, or see --dry-run"
        )


def _sentence(stderr: str) -> str:
    """Fold the lines of an error into one: the last of them says why."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
