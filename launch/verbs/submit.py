"""Send jobs to a SLURM cluster: one training, the whole chain, a sweep; or look at them.

    cacl submit train class-aware --nodes 4 --time 8:00:00 --dry-run
    cacl submit chain class-aware --nodes 4 --time 8:00:00 --parts 16 \\
        --pack "vggsound --root VIDEOS --out data/vggsound/train --validation data/vggsound/validation" \\
        --pack "vggss --root VIDEOS --out data/vgg-ss" \\
        --label "--classifier resnet18 --weights resnet18-f37072fd.pth"
    cacl submit sweep class-aware --space temperature --nodes 2 --time 24:00:00
    cacl submit status

The job scripts lie in slurm/, the settings of a site in slurm/site.sh (or the copy that CACL_SITE names).
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cacl.errors import UserError
from launch.as_json import as_json
from launch.config import OVERRIDES_HELP, load_recipe, word_at_home
from launch.table import align
from launch.verbs.arguments import add_json_argument, add_verb

if TYPE_CHECKING:
    from launch.cluster.jobs import Job, Machines, Packing
    from launch.jobs.recipe import Recipe


COLUMNS = ["job", "name", "state", "time", "nodes", "where or why", "step", "loss", "folder"]
"""Of the queue as a table."""
CLASSIFIERS = ("efficientnet-lite0", "resnet18", "alexnet", "squeezenet1_0", "squeezenet1_1")
"""Whose labels a table is taken to hold that has their name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    what = parser.add_subparsers(dest="what", required=True, metavar="train|chain|sweep|status")
    train = add_verb(
        what,
        "train",
        "train a recipe",
        "cacl submit train class-aware --nodes 4 --time 8:00:00",
        epilog=OVERRIDES_HELP,
    )
    chain = add_verb(
        what,
        "chain",
        "pack, label, train, evaluate",
        "cacl submit chain class-aware --pack 'vggss --root VIDEOS --out data/vgg-ss' --dry-run",
        epilog=OVERRIDES_HELP,
    )
    sweep = add_verb(
        what,
        "sweep",
        "sweep over settings of a recipe",
        "cacl submit sweep class-aware --space temperature --time 24:00:00",
    )
    status = add_verb(what, "status", "show your jobs and how far their runs are", "cacl submit status")
    add_json_argument(status)
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
        verb.set_defaults(takes_overrides=True)
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
        help="options of `cacl label`, such as `--classifier resnet18`",
    )
    sweep.add_argument("--space", required=True, metavar="SPACE", help="what to vary, as in cacl sweep")
    sweep.add_argument("--out", metavar="DIR", help="where the sweep is kept (default: runs/sweep-<recipe>)")


def main(arguments: argparse.Namespace) -> None:
    """Submit what was asked for, or show the queue."""
    from launch.cluster import slurm, submission
    from launch.cluster.jobs import Machines

    if arguments.what == "status":
        rows = submission.status()
        print(
            as_json([dict(zip(COLUMNS, row, strict=True)) for row in rows]) if arguments.json else show(rows)
        )
        return
    environment = slurm.site_environment(arguments.site)
    machines = Machines(arguments.nodes, arguments.gpus_per_node, arguments.partition, arguments.time)
    ask = not arguments.dry_run or slurm.answers()
    gpus = submission.check_machines(machines, environment, ask=ask)
    ranks = submission.count_ranks(machines, gpus, environment)
    plan = {"train": plan_training, "chain": plan_chain, "sweep": plan_sweep}[arguments.what]
    jobs = plan(arguments, machines, ranks)
    if arguments.dry_run:
        print("\n".join([*submission.as_comments(jobs), *submission.as_shell(jobs, environment)]))
    else:
        submission.submit(jobs, environment, print)
        print("look at them: cacl submit status")


def plan_training(arguments: argparse.Namespace, machines: Machines, ranks: int) -> list[Job]:
    """Return the job that trains the recipe."""
    from launch.cluster.jobs import train_job
    from launch.jobs.sizes import check_sizes

    check_sizes(load_recipe(arguments.recipe, arguments.overrides), ranks, arguments.recipe)
    return [train_job(arguments.recipe, run_directory(arguments), machines, arguments.overrides)]


def plan_chain(arguments: argparse.Namespace, machines: Machines, ranks: int) -> list[Job]:
    """Return the jobs from packing to evaluation."""
    from launch.cluster.jobs import chain_jobs
    from launch.jobs.sizes import check_sizes

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    check_sizes(recipe, ranks, arguments.recipe)
    packings = [parse_packing(text) for text in arguments.pack]
    label_options = split_words("--label", arguments.label)
    jobs = chain_jobs(
        arguments.recipe,
        run_directory(arguments),
        machines,
        packings,
        data=one_data_set(recipe),
        validation=recipe.data.validation,
        labels=recipe.data.labels,
        label_options=label_options,
        parts=arguments.parts,
        overrides=arguments.overrides,
    )
    for packing in packings:
        check_packing(packing)
    if recipe.data.labels is not None:
        check_labeling(recipe.data.labels, label_options)
    check_test(recipe, packings)
    return jobs


def check_packing(packing: Packing) -> None:
    """Raise UserError, or exit as `cacl pack` does, for what it would not take, and for missing files."""
    from launch.main import parser_of
    from launch.verbs.source_options import build_source
    from shards.sources import source_class

    words = parser_of("pack").parse_args(packing.words)
    if words.source == "merge":
        raise UserError("--pack: a chain merges by itself; name a source of clips")
    build_source(source_class(words.source), words).check_files()


def check_labeling(table: str, options: list[str]) -> None:
    """Raise UserError where `cacl label` lacks a file, or the table has another classifier's name.

    Exits as `cacl label` does for words that it would not take.
    """
    from launch.main import parser_of

    words = parser_of("label").parse_args(["DIR", *options])
    if words.weights is not None and not Path(words.weights).is_file():
        raise UserError(f"--label: --weights {words.weights}: there is no such file; name the weights")
    named = Path(table).stem
    if words.tagger is None and named in CLASSIFIERS and named != words.classifier:
        raise UserError(
            f"--label: the recipe's data.labels is {table}, and the labels would be those of "
            f"{words.classifier}; give --label '--classifier {named} --weights FILE', or another table by "
            "--data.labels"
        )


def check_test(recipe: Recipe, packings: list[Packing]) -> None:
    """Raise UserError where there will be no test clips at the chain's end."""
    from shards import manifest

    test = recipe.data.test
    if test is None:
        raise UserError("submit chain: ends with `cacl evaluate`, and data.test names no clips; set it")
    if Path(test) not in [Path(packing.out) for packing in packings] and "://" not in test:
        try:
            manifest.load(Path(test))
        except UserError as error:
            raise UserError(
                f"--pack: none of them has --out {test}, the recipe's data.test, and nothing is packed there"
            ) from error


def one_data_set(recipe: Recipe) -> str:
    """Return the folder that a chain packs and labels. Raises UserError where the recipe names several."""
    if isinstance(recipe.data.train, str):
        return recipe.data.train
    raise UserError(
        "submit chain: packs and labels one data set, and data.train names a list; pack and label each, then "
        "use: cacl submit train"
    )


def plan_sweep(arguments: argparse.Namespace, machines: Machines, ranks: int) -> list[Job]:
    """Return the job of a sweep."""
    from launch.cluster.jobs import sweep_job
    from launch.sweeping.space import load_space

    load_recipe(arguments.recipe, [])
    load_space(arguments.space).settings(arguments.recipe)
    out = Path(arguments.out or f"runs/sweep-{Path(arguments.recipe).stem}")
    return [sweep_job(arguments.recipe, out, machines, arguments.space)]


def run_directory(arguments: argparse.Namespace) -> Path:
    """Return the run directory; the default is the same at every submission, so that a run continues."""
    return Path(arguments.run_dir or f"runs/{Path(arguments.recipe).stem}")


def split_words(option: str, text: str) -> list[str]:
    """Return the words that a shell would make of an option's text; `~/` is the home folder, as there."""
    try:
        return [word_at_home(word) for word in shlex.split(text)]
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}; close the quotes") from error


def parse_packing(text: str) -> Packing:
    """Return what one --pack says."""
    from launch.cluster.jobs import Packing

    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--out")
    parser.add_argument("--validation")
    words = split_words("--pack", text)
    folders = parser.parse_known_args(words)[0]
    if not words or words[0].startswith("-") or not folders.out:
        raise UserError(f"--pack {text!r}: write SOURCE and its options as for `cacl pack`, with --out")
    return Packing(words, folders.out, folders.validation)


def show(rows: list[list[str]]) -> str:
    """Return the queue as a table."""
    if not rows:
        return "no jobs of cacl in the queue"
    return "\n".join(align(COLUMNS, rows))
