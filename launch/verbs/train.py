"""Train from a recipe, on one process or many.

    cacl train launch/recipes/demo.yaml --nproc-per-node 2 --run-dir runs/mine --optimizer.learning-rate 1e-3
    torchrun --nproc-per-node 2 -m launch.main train launch/recipes/demo.yaml

Stopped by SIGTERM, SIGUSR1 or SIGHUP it writes a checkpoint and the marker `requeue`, by SIGINT (Ctrl-C) a
checkpoint alone; --resume goes on from there.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cacl.errors import UserError
from cacl.processes import GO_ON, INTERRUPT, STOPPING
from launch.config import OVERRIDES_HELP, load_recipe
from launch.ranks import check_number, run_ranks
from launch.stop_request import StopRequest

if TYPE_CHECKING:
    from launch.jobs.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a recipe: its path, or the name of one that comes with cacl"
    )
    parser.add_argument("--run-dir", help="where the run is kept (default: runs/<recipe>-<time>)")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest valid checkpoint, if any"
    )
    parser.add_argument("--max-steps", type=int, metavar="N", help="end at step N of the schedule")
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="ranks on this machine (default: 1)")
    parser.add_argument(
        "--max-restarts", type=int, default=0, metavar="N", help="start again N times after a rank has died"
    )
    parser.add_argument(
        "--init-from",
        metavar="PATH",
        help="take the weights of a run or a .safetensors file, and nothing else",
    )
    parser.epilog = OVERRIDES_HELP
    parser.set_defaults(takes_overrides=True)


def main(arguments: argparse.Namespace) -> int:
    """Be one rank, or start several and wait for them."""
    stop = StopRequest()
    code = _train(arguments, stop)
    stop.ignore()
    return code


def _train(arguments: argparse.Namespace, stop: StopRequest) -> int:
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.max_steps is not None and arguments.max_steps < 1:
        raise UserError(f"--max-steps {arguments.max_steps}: give at least 1")
    if arguments.max_restarts < 0:
        raise UserError(f"--max-restarts {arguments.max_restarts}: give 0 or more")
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        return start_ranks(recipe, arguments, stop)
    if arguments.run_dir is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0):
        raise UserError("--run-dir is needed with --max-restarts, so that a restart finds its checkpoints")
    from cacl.runs.directory import Run
    from launch.jobs.environment import lost_contact, start_world, stop_world
    from launch.jobs.train import train

    run_dir = arguments.run_dir or default_run_dir(arguments.recipe)
    if arguments.run_dir is not None:  # else every rank would make up another one
        stop.end_if_stuck(Run(run_dir).leave_requeue)
    world = start_world(recipe.training.distributed_timeout)
    try:
        outcome = train(
            recipe,
            run_dir,
            world,
            resume=arguments.resume or is_restart(),
            max_steps=arguments.max_steps,
            init_from=arguments.init_from,
            stop_requested=stop,
            say=lambda sentence: print(sentence, flush=True),
        )
        return 130 if outcome == "interrupted" and world.size == 1 else 0
    except RuntimeError as error:
        if lost_contact(error):
            raise UserError(
                f"rank {world.rank}: lost contact with another rank, which has died or hangs (its own lines "
                "say more); go on with --resume",
                exit_code=1,
            ) from error
        raise
    finally:
        stop_world()


def start_ranks(recipe: Recipe, arguments: argparse.Namespace, stop: StopRequest) -> int:
    """Run torchrun with the same arguments, pass signals on to it, and return after its last rank.

    0 where the run is finished, or stopped and `requeue` says so; 130 where a person has interrupted it.
    """
    from cacl.runs.directory import Run
    from launch.jobs.data import open_data
    from launch.jobs.train import check_run, is_finished

    run_dir = arguments.run_dir or default_run_dir(arguments.recipe)
    run = Run(run_dir)
    data = open_data(recipe, arguments.nproc_per_node)
    check_run(run, recipe, arguments.resume)
    if run.requeue_file.exists():  # of an earlier start; what is left at the end is this one's
        run.ask_requeue(False)
    words = [arguments.recipe, "--run-dir", run_dir]
    words += ["--resume"] if arguments.resume else []
    words += ["--max-steps", str(arguments.max_steps)] if arguments.max_steps is not None else []
    words += ["--init-from", arguments.init_from] if arguments.init_from else []
    words += arguments.overrides
    code = run_ranks(arguments.nproc_per_node, "train", words, arguments.max_restarts, stop)
    if code < 0 and -code in STOPPING:  # torchrun was told, before it could listen
        stop.note(-code)
    if stop.word == INTERRUPT:
        return 130
    if code and stop.word != GO_ON:
        if is_finished(run, data, arguments.max_steps):  # told after the last step
            return 0
        run.leave_requeue()  # told before the ranks could listen, or they have left it themselves
    if run.requeue_file.exists():
        return 0
    return code if code >= 0 else 128 - code


def is_restart() -> bool:
    """Say whether torchrun or SLURM has started this job again."""
    names = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name) or 0) for name in names)


def default_run_dir(recipe_file: str) -> str:
    """Return a run directory that no run has used: the recipe's name and the time."""
    return f"runs/{Path(recipe_file).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
