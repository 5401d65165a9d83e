"""What is submitted: the SLURM jobs of a training, of a chain from packing to evaluation, and of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cacl.errors import UserError
from launch.cluster import slurm


@dataclass(frozen=True)
class Machines:
    """On what a job runs; None is the site's or the partition's default."""

    nodes: int = 1
    gpus_per_node: int | None = None
    partition: str | None = None
    time: str | None = None
    """Limit of one start of a job, as SLURM writes it."""

    def options(self, *, gpus: bool = True) -> list[str]:
        """Return the options of sbatch that say on what kind of nodes a job runs."""
        options = [f"--partition={self.partition}"] if self.partition else []
        if self.gpus_per_node and gpus:
            options.append(f"--gpus-per-node={self.gpus_per_node}")
        return options

    def all_nodes(self) -> list[str]:
        """Return the options of a job that takes all nodes and may take all the time."""
        limit = [f"--time={self.time}"] if self.time else []
        return [*self.options(), f"--nodes={self.nodes}", *limit]


@dataclass(frozen=True)
class Packing:
    """The clips of one source that a chain packs first."""

    words: list[str]
    """What follows `cacl pack`, `--out` with it."""
    out: str
    validation: str | None = None
    """Where its validation split goes, if it is cut."""


@dataclass(frozen=True)
class Job:
    """One `sbatch`: a script of slurm/, what it is given, and the jobs that must succeed before it."""

    key: str
    script: str
    arguments: list[str]
    name: str
    folder: Path
    """The run or sweep that it works for; its log lies there."""
    options: list[str]
    after: tuple[str, ...] = ()

    @property
    def is_array(self) -> bool:
        """True for an array of jobs, which write a log each."""
        return any(option.startswith("--array=") for option in self.options)

    @property
    def runs_on(self) -> str:
        """What it runs on, in words."""
        given = dict(option[2:].split("=", 1) for option in self.options if "=" in option)
        nodes = int(given.get("nodes", 1))
        parts = [f"{given['array'].removeprefix('1-')} jobs"] if self.is_array else []
        parts += [f"{nodes} nodes"] if nodes > 1 else []
        parts += [f"{given['gpus-per-node']} GPUs a node"] if "gpus-per-node" in given else []
        parts += [f"partition {given['partition']}"] if "partition" in given else []
        return ", ".join(parts) or "1 node"

    @property
    def logs(self) -> Path:
        """The folder of its logs; SLURM does not make it."""
        return self.folder / "logs"

    def log(self, number: str) -> Path:
        """Return where the job of this number writes."""
        return self.logs / f"cacl-{self.name}-{number}.log"

    def words(self, numbers: dict[str, str]) -> list[str]:
        """Return the words after `sbatch`; `numbers` are the submitted jobs' by key."""
        log = self.log("%A_%a" if self.is_array else "%j")
        options = [
            f"--job-name=cacl-{self.name}",
            f"--output={log}",
            f"--comment={self.folder}",
            *self.options,
        ]
        if self.after:
            numbers_before = ":".join(numbers[key] for key in self.after)
            options += [f"--dependency=afterok:{numbers_before}", "--kill-on-invalid-dep=yes"]
        return [*options, str(slurm.SCRIPTS / f"{self.script}.sbatch"), *self.arguments]


def train_job(
    recipe: str, run: Path, machines: Machines, overrides: Sequence[str] = (), after: tuple[str, ...] = ()
) -> Job:
    """Return the job that trains the recipe; a second one for the same run directory waits for the first."""
    options = machines.all_nodes()
    if not after:
        options.append("--dependency=singleton")
    return Job("train", "train", [recipe, str(run), *overrides], f"train-{run.name}", run, options, after)


def chain_jobs(
    recipe: str,
    run: Path,
    machines: Machines,
    packings: Sequence[Packing],
    *,
    data: str,
    validation: str | None = None,
    labels: str | None = None,
    label_options: Sequence[str] = (),
    parts: int = 16,
    overrides: Sequence[str] = (),
) -> list[Job]:
    """Return pack (an array) and merge for each source and split, then label, train and evaluate.

    `data`, `validation` and `labels` are the recipe's clips and label table. Raises UserError unless
    `packings` pack both.
    """
    if parts < 1:
        raise UserError(f"--parts {parts}: give at least one part")
    anywhere = machines.options(gpus=False)
    jobs: list[Job] = []
    merges: dict[Path, str] = {}
    for number, packing in enumerate(packings, 1):
        pack, merge = f"pack_{number}", f"merge_{number}"
        array = [*anywhere, f"--array=1-{parts}"]
        jobs.append(Job(pack, "pack", packing.words, "pack", run, array))
        for key, folder in ((merge, packing.out), (f"{merge}_validation", packing.validation)):
            if folder is not None:
                jobs.append(Job(key, "merge", ["--out", folder], "merge", run, anywhere, (pack,)))
                merges.setdefault(Path(folder), key)
    last = merges.pop(Path(data), None)
    if last is None:
        raise UserError(f"--pack: none of them has --out {data}, the recipe's data.train")
    split = None if validation is None else merges.pop(Path(validation), None)
    if validation is not None and split is None:
        raise UserError(
            f"--pack: none of them has --validation {validation}, the recipe's data.validation; add it, or "
            "train without one: --data.validation null"
        )
    if labels is not None:
        jobs.append(label_job(data, labels, run, machines, label_options, (last,)))
        last = "label"
    elif label_options:
        raise UserError("--label: the recipe's data.labels names no table; set it, or leave --label out")
    one_node = [*machines.options(), "--nodes=1"]
    train = train_job(recipe, run, machines, overrides, after=(last, *([split] if split else [])))
    after = ("train", *merges.values())
    evaluate = Job("evaluate", "evaluate", ["--run", str(run)], "evaluate", run, one_node, after)
    return [*jobs, train, evaluate]


def label_job(
    data: str, table: str, run: Path, machines: Machines, options: Sequence[str], after: tuple[str, ...]
) -> Job:
    """Return the job that writes the label table of the clips at `data`."""
    words = [data, "--out", table, *options]
    return Job("label", "label", words, "label", run, [*machines.options(), "--nodes=1"], after)


def sweep_job(recipe: str, out: Path, machines: Machines, space: str) -> Job:
    """Return the job that holds a Ray cluster and the sweep."""
    words = [recipe, str(out), "--space", space]
    options = [*machines.all_nodes(), "--dependency=singleton"]
    return Job("sweep", "sweep", words, f"sweep-{out.name}", out, options)
