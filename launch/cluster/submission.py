"""Sending jobs to SLURM: what is checked before, the commands, and how far the jobs are."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from cacl.errors import UserError, shorten
from cacl.runs.directory import Run
from launch.cluster import slurm
from launch.cluster.jobs import Job, Machines
from launch.table import align
from launch.terminal import one_line


def check_machines(machines: Machines, environment: dict[str, str], *, ask: bool) -> int:
    """Return how many GPUs a node has for the job: those asked for, or those of the partition.

    If `ask`, the cluster itself is asked whether it has such nodes. Raises UserError for what it cannot do.
    """
    nodes, gpus = machines.nodes, machines.gpus_per_node
    if nodes < 1:
        raise UserError(f"--nodes {nodes}: give at least one node")
    if gpus is not None and gpus < 0:
        raise UserError(f"--gpus-per-node {gpus}: give 0 or more")
    minutes = slurm.minutes(machines.time) if machines.time else None
    if machines.time and machines.time.count(":") == 1 and "-" not in machines.time:
        raise UserError(
            f"--time {machines.time}: SLURM reads this as {minutes} minutes; write {machines.time}:00 for "
            f"hours, or 0:{machines.time}"
        )
    if not ask:
        return gpus or 0
    partition = slurm.find_partition(machines.partition or environment.get("SBATCH_PARTITION"))
    gpus = partition.gpus_per_node if gpus is None else gpus
    if nodes > partition.nodes:
        raise UserError(f"--nodes {nodes}: partition {partition.name} has {partition.nodes}")
    if gpus > partition.gpus_per_node:
        has = partition.gpus_per_node
        raise UserError(f"--gpus-per-node {gpus}: a node of partition {partition.name} has {has}")
    if minutes is not None and partition.minutes is not None and minutes > partition.minutes:
        limit = partition.minutes
        raise UserError(f"--time {machines.time}: partition {partition.name} allows {limit} minutes at most")
    return gpus


def count_ranks(machines: Machines, gpus: int, environment: dict[str, str]) -> int:
    """Return how many ranks train: one a GPU, or the site's number of a node without any."""
    ranks = environment.get("CACL_CPU_RANKS") or "1"
    if not ranks.isdecimal() or len(ranks) > 6 or not int(ranks):
        raise UserError(
            f"CACL_CPU_RANKS: {ranks!r} is not a number of 1 or more; mend it in the site's settings"
        )
    return machines.nodes * (gpus or int(ranks))


def submit(jobs: Sequence[Job], environment: dict[str, str], say: Callable[[str], None]) -> None:
    """Submit jobs in their order; if one is refused, cancel those before it."""
    slurm.require("sbatch")
    numbers: dict[str, str] = {}
    for job in jobs:
        job.logs.mkdir(parents=True, exist_ok=True)
        try:
            numbers[job.key] = str(slurm.sbatch(job.words(numbers), environment))
        except UserError:
            slurm.scancel(list(numbers.values()))
            raise
        number = numbers[job.key]
        say(f"{job.key}: job {number}, log {job.log(f'{number}_*' if job.is_array else number)}")


def as_comments(jobs: Sequence[Job]) -> list[str]:
    """Return the jobs as a table in comments of bash: what each does, on what, and after which others."""
    rows = []
    for job in jobs:
        does = shorten(" ".join([job.script, *job.arguments]), 60)
        rows.append([job.key, one_line(does), one_line(job.runs_on), ", ".join(job.after) or "-"])
    return [f"# {line}" for line in align(["job", "does", "on", "after"], rows)]


def as_shell(jobs: Sequence[Job], environment: dict[str, str]) -> list[str]:
    """Return bash commands that would submit the jobs, whatever their words hold."""
    site, scripts = quoted(environment["CACL_SITE"]), quoted(str(slurm.SCRIPTS))
    lines = [f"export CACL_SITE={site} CACL_SCRIPTS={scripts}"]
    for folder in dict.fromkeys(job.logs for job in jobs):
        lines.append(f"mkdir -p {'-- ' if str(folder).startswith('-') else ''}{quoted(str(folder))}")
    for job in jobs:
        # No word of a command line holds a NUL: what stands between two is another job's number.
        words = job.words({key: f"\0{key}\0" for key in job.after})
        lines.append(f"{job.key}=$(sbatch --parsable {' '.join(map(_with_numbers, words))})")
    return lines


def _with_numbers(word: str) -> str:
    texts, keys = word.split("\0")[::2], word.split("\0")[1::2]
    if keys and all(quoted(text) == text for text in texts if text):
        pairs = zip(keys, texts[1:], strict=True)
        return f'"{texts[0]}{"".join(f"${{{key}}}{text}" for key, text in pairs)}"'
    parts = [quoted(texts[0])] if texts[0] or not keys else []
    for key, text in zip(keys, texts[1:], strict=True):
        parts += [f'"${{{key}}}"', *([quoted(text)] if text else [])]
    return "".join(parts)


def quoted(word: str) -> str:
    """Return a word as bash reads it back; one that no terminal shows as it is, by its bytes."""
    if word.isprintable():
        return shlex.quote(word)
    plain = {byte: chr(byte) for byte in range(32, 127) if chr(byte) not in "\\'"}
    return "$'" + "".join(plain.get(byte, f"\\x{byte:02x}") for byte in os.fsencode(word)) + "'"


def status() -> list[list[str]]:
    """Return a row for each of this user's cacl jobs, with the last step that its run has logged.

    A row is [job, name, state, time, nodes, where or why, step, loss, folder].
    """
    rows = []
    for number, name, state, time, nodes, where, folder in slurm.queue():
        if name.startswith("cacl-"):
            last: dict[str, Any] = next(Run(folder).newest_first("loss"), {})
            loss = f"{last['loss']:.4f}" if last else ""
            rows.append([number, name, state, time, nodes, where, str(last.get("step", "")), loss, folder])
    return rows
