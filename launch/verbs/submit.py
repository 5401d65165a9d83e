"""Send jobs to a SLURM cluster: one training, the whole chain, a sweep; or look at them.

    cacl submit train slavc-class-aware --nodes 4 --time 8:00:00 --dry-run
    cacl submit chain slavc-class-aware --nodes 4 --time 8:00:00 --parts 16 \\
        --pack "vggsound --root VIDEOS --out data/vggsound/train" \\
        --pack "vggss --root VIDEOS --out data/vgg-ss"
    cacl submit sweep slavc-class-aware --space temperature --nodes 2 --time 24:00:00
    cacl submit status

The job scripts lie in slurm/, the settings of a site in slurm/site.sh (or the copy that CACL_SITE names).
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cacl.errors import UserError
from launch.cluster import slurm
from launch.config import OVERRIDES_HELP, load_recipe

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    what = parser.add_subparsers(dest="what", required=True, metavar="train|chain|sweep|status")
    train = what.add_parser("train", allow_abbrev=False, help="train a recipe", epilog=OVERRIDES_HELP)
    chain = what.add_parser(
        "chain", allow_abbrev=False, help="pack, label, train, evaluate", epilog=OVERRIDES_HELP
    )
    sweep = what.add_parser("sweep", allow_abbrev=False, help="sweep over settings of a recipe")
    what.add_parser("status", help="show your jobs and how far their runs are")
    for verb in (train, chain, sweep):
        verb.add_argument(
            "recipe", metavar="RECIPE", help="a recipe: its path, or the name of one that comes with cacl"
        )
        verb.add_argument(
            "--nodes", type=int, default=1, metavar="N", help="machines to train on (default: 1)"
        )
        verb.add_argument(
            "--time", metavar="HH:MM:SS", help="limit of one start of a job (default: the site's)"
        )
        verb.add_argument("--gpus-per-node", type=int, metavar="N", help="default: what the partition has")
        verb.add_argument("--partition", metavar="NAME", help="default: the site's")
        verb.add_argument("--site", metavar="FILE", help="the site's settings (default: $CACL_SITE)")
        verb.add_argument("--dry-run", action="store_true", help="check, print the commands, submit nothing")
    for verb in (train, chain):
        verb.add_argument("--run-dir", metavar="RUN", help="where the run is kept (default: runs/<recipe>)")
    chain.add_argument(
        "--pack", action="append", required=True, metavar="'SOURCE ...'",
        help="the words after `cacl pack` with their --out; may be given again for the test clips",
    )  # fmt: skip
    chain.add_argument(
        "--parts", type=int, default=16, metavar="N", help="jobs that pack one source (default: 16)"
    )
    chain.add_argument(
        "--label",
        default="",
        metavar="'OPTIONS'",
        help="options of `cacl label`, such as '--classifier resnet18'",
    )
    sweep.add_argument("--space", required=True, metavar="SPACE", help="what to vary, as in cacl sweep")
    sweep.add_argument("--out", metavar="DIR", help="where the sweep is kept (default: runs/sweep-<recipe>)")


def main(arguments: argparse.Namespace) -> None:
    """Submit what was asked for, or show the queue."""
    if arguments.what == "status":
        print(status())
        return
    environment = slurm.site_environment(arguments.site)
    check(arguments, environment)
    jobs = {"train": train_jobs, "chain": chain_jobs, "sweep": sweep_jobs}[arguments.what](arguments)
    if arguments.dry_run:
        print("\n".join(as_shell(jobs, environment)))
    else:
        submit(jobs, environment)


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


def check(arguments: argparse.Namespace, environment: dict[str, str]) -> None:
    """Refuse what the cluster or the recipe cannot do, before anything is submitted."""
    if arguments.nodes < 1:
        raise UserError(f"--nodes {arguments.nodes}: give at least one node")
    if arguments.gpus_per_node is not None and arguments.gpus_per_node < 0:
        raise UserError(f"--gpus-per-node {arguments.gpus_per_node}: give 0 or more")
    wanted = slurm.minutes(arguments.time) if arguments.time else None
    gpus = arguments.gpus_per_node
    if not arguments.dry_run or slurm.answers():
        partition = slurm.find_partition(arguments.partition or environment.get("SBATCH_PARTITION"))
        gpus = partition.gpus_per_node if gpus is None else gpus
        if arguments.nodes > partition.nodes:
            raise UserError(f"--nodes {arguments.nodes}: partition {partition.name} has {partition.nodes}")
        if gpus > partition.gpus_per_node:
            has = partition.gpus_per_node
            raise UserError(f"--gpus-per-node {gpus}: a node of partition {partition.name} has {has}")
        if wanted is not None and partition.minutes is not None and wanted > partition.minutes:
            limit = partition.minutes
            raise UserError(
                f"--time {arguments.time}: partition {partition.name} allows {limit} minutes at most"
            )
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.what == "sweep":
        from launch.sweeping.space import load_space

        load_space(arguments.space).settings(arguments.recipe)
    else:
        from launch.jobs.sizes import check_sizes

        ranks = arguments.nodes * (gpus or int(environment.get("CACL_CPU_RANKS") or 1))
        check_sizes(recipe, ranks, arguments.recipe)


def train_jobs(arguments: argparse.Namespace, after: tuple[str, ...] = ()) -> list[Job]:
    """Return the job that trains the recipe; a second one for the same run directory waits for the first."""
    run = run_directory(arguments)
    options = [*where(arguments), f"--nodes={arguments.nodes}", *time_limit(arguments)]
    if not after:
        options.append("--dependency=singleton")
    words = [arguments.recipe, str(run), *arguments.overrides]
    return [Job("train", "train", words, f"train-{run.name}", run, options, after)]


def chain_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Return pack (an array) and merge for each source, then label, train and evaluate."""
    if arguments.parts < 1:
        raise UserError(f"--parts {arguments.parts}: give at least one part")
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    run = run_directory(arguments)
    anywhere = where(arguments, gpus=False)
    jobs: list[Job] = []
    merges = []
    for number, text in enumerate(arguments.pack, 1):
        words, out = pack_words(text)
        pack, merge = f"pack_{number}", f"merge_{number}"
        array = [*anywhere, f"--array=1-{arguments.parts}"]
        jobs.append(Job(pack, "pack", words, "pack", run, array))
        jobs.append(Job(merge, "merge", ["--out", out], "merge", run, anywhere, (pack,)))
        merges.append((out, merge))
    trained = [key for out, key in merges if Path(out) == Path(recipe.data.train)]
    if not trained:
        raise UserError(f"--pack: none of them has --out {recipe.data.train}, the recipe's data.train")
    labels = label_jobs(arguments, recipe.data.train, recipe.data.labels, run, trained[0])
    last = labels[-1].key if labels else trained[0]
    others = tuple(key for _, key in merges if key != trained[0])
    one_node = [*where(arguments), "--nodes=1"]
    evaluate = Job("evaluate", "evaluate", ["--run", str(run)], "evaluate", run, one_node, ("train", *others))
    return [*jobs, *labels, *train_jobs(arguments, after=(last,)), evaluate]


def label_jobs(
    arguments: argparse.Namespace, data: str, table: str | None, run: Path, after: str
) -> list[Job]:
    """Return the job that writes the recipe's label table; none where the recipe names no table."""
    if table is None:
        if arguments.label:
            raise UserError("--label: the recipe's data.labels names no table; set it, or leave --label out")
        return []
    words = [data, "--out", table, *shlex.split(arguments.label)]
    return [Job("label", "label", words, "label", run, [*where(arguments), "--nodes=1"], (after,))]


def sweep_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Return the job that holds a Ray cluster and the sweep."""
    out = Path(arguments.out or f"runs/sweep-{Path(arguments.recipe).stem}")
    words = [arguments.recipe, str(out), "--space", arguments.space]
    options = [*where(arguments), f"--nodes={arguments.nodes}", *time_limit(arguments)]
    return [Job("sweep", "sweep", words, f"sweep-{out.name}", out, [*options, "--dependency=singleton"])]


def where(arguments: argparse.Namespace, gpus: bool = True) -> list[str]:
    """Return the options that say on what kind of nodes a job runs."""
    options = [f"--partition={arguments.partition}"] if arguments.partition else []
    if arguments.gpus_per_node and gpus:
        options.append(f"--gpus-per-node={arguments.gpus_per_node}")
    return options


def time_limit(arguments: argparse.Namespace) -> list[str]:
    """Return the option for the limit of time, none where the site's default is to hold."""
    return [f"--time={arguments.time}"] if arguments.time else []


def run_directory(arguments: argparse.Namespace) -> Path:
    """Return the run directory; the default one is the same at every submission, so that a run goes on."""
    return Path(arguments.run_dir or f"runs/{Path(arguments.recipe).stem}")


def pack_words(text: str) -> tuple[list[str], str]:
    """Return the words of one --pack and its --out."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--out")
    words = shlex.split(text)
    out = parser.parse_known_args(words)[0].out
    if not words or words[0].startswith("-") or not out:
        raise UserError(f"--pack {text!r}: write SOURCE and its options as for `cacl pack`, with --out")
    return words, out


def submit(jobs: list[Job], environment: dict[str, str]) -> None:
    """Submit jobs in their order; where one is refused, cancel those before it."""
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
        print(f"{job.key}: job {number}, log {job.log(f'{number}_*' if job.is_array else number)}")
    print("look at them: cacl submit status")


def as_shell(jobs: list[Job], environment: dict[str, str]) -> list[str]:
    """Return shell commands that would submit the jobs."""
    site, scripts = shlex.quote(environment["CACL_SITE"]), shlex.quote(str(slurm.SCRIPTS))
    lines = [f"export CACL_SITE={site} CACL_SCRIPTS={scripts}"]
    lines += [f"mkdir -p {shlex.quote(str(folder))}" for folder in dict.fromkeys(job.logs for job in jobs)]
    for job in jobs:
        words = job.words({key: f"${{{key}}}" for key in job.after})
        quoted = " ".join(f'"{word}"' if "${" in word else shlex.quote(word) for word in words)
        lines.append(f"{job.key}=$(sbatch --parsable {quoted})")
    return lines


def status() -> str:
    """Return a table of this user's cacl jobs, with the last step that each run has logged."""
    from cacl.runs.directory import Run

    rows = [["job", "name", "state", "time", "nodes", "where or why", "step", "loss", "folder"]]
    for number, name, state, time, nodes, where, folder in slurm.queue():
        if name.startswith("cacl-"):
            records = reversed(Run(folder).records())
            last: dict[str, Any] = next((line for line in records if "loss" in line), {})
            loss = f"{last['loss']:.4f}" if last else ""
            rows.append([number, name, state, time, nodes, where, str(last.get("step", "")), loss, folder])
    if len(rows) == 1:
        return "no jobs of cacl in the queue"
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
