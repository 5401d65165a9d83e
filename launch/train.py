"""Train from a recipe, on one process or many.

    cacl train launch/recipes/demo.yaml --nproc-per-node 2 --run-dir runs/mine --optimizer.learning-rate 1e-3
    torchrun --nproc-per-node 2 -m launch.train launch/recipes/demo.yaml

Stopped by SIGTERM or SIGUSR1 it writes a checkpoint and the marker `requeue`; --resume goes on from there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cacl.errors import UserError
from launch.config import OVERRIDES_HELP, load_recipe
from launch.environment import describe, lost_contact, start_world, stop_world
from launch.ranks import SIGNALS, check_number, run_ranks

if TYPE_CHECKING:
    from cacl.runs.directory import Run
    from cacl.training.ema import Ema
    from cacl.training.engines import Engine
    from cacl.world import World
    from launch.data import TrainingData
    from launch.recipe import Recipe

TAKES_OVERRIDES = True


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


def main(arguments: argparse.Namespace) -> int:
    """Be one rank, or start several and wait for them."""
    stop = StopRequest()
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.max_steps is not None and arguments.max_steps < 1:
        raise UserError(f"--max-steps {arguments.max_steps}: give at least 1")
    if arguments.max_restarts < 0:
        raise UserError(f"--max-restarts {arguments.max_restarts}: give 0 or more")
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        return start_ranks(recipe, arguments, stop)
    world = start_world(recipe.training.distributed_timeout)
    try:
        return train_rank(recipe, arguments, world, stop)
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
    """Run torchrun with the same arguments, pass signals on to it, and return after its last rank."""
    from cacl.runs.directory import Run
    from launch.data import open_data

    run_dir = arguments.run_dir or default_run_dir(arguments.recipe)
    run = Run(run_dir)
    open_data(recipe, arguments.nproc_per_node)
    check_run(run, recipe, arguments.resume)
    words = [arguments.recipe, "--run-dir", run_dir]
    words += ["--resume"] if arguments.resume else []
    words += ["--max-steps", str(arguments.max_steps)] if arguments.max_steps is not None else []
    words += ["--init-from", arguments.init_from] if arguments.init_from else []
    words += arguments.overrides
    code = run_ranks(arguments.nproc_per_node, "launch.train", words, arguments.max_restarts)
    if code and stop():  # told to stop before the ranks could listen
        run.folder.mkdir(parents=True, exist_ok=True)
        run.ask_requeue(True)
    return 0 if run.requeue_file.exists() else code


def check_run(run: Run, recipe: Recipe, going_on: bool) -> list[str]:
    """Return how the recipe changes a run that goes on, a sentence a change.

    Raises UserError where the run directory is taken, or holds a run of another recipe.
    """
    from cacl.runs import checkpoint
    from launch.changes import check_changes

    if not run.is_used():
        return []
    if not going_on:
        raise UserError(
            f"{run.folder}: holds a run already; go on with it by --resume, or name another --run-dir"
        )
    run.claim()
    run.release()
    return check_changes(run, recipe) if checkpoint.step_folders(run.checkpoints) else []


def claim_run(recipe: Recipe, arguments: argparse.Namespace, world: World, going_on: bool) -> Run:
    """Return the run directory, locked by rank 0. Every rank raises UserError where it is not to be had."""
    from cacl.runs.directory import Run

    if arguments.run_dir is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0):
        raise UserError("--run-dir is needed with --max-restarts, so that a restart finds its checkpoints")
    run = Run(world.broadcast_object(arguments.run_dir or default_run_dir(arguments.recipe)))
    refusal = None
    if world.is_main:
        try:
            changes = check_run(run, recipe, going_on)
            run.claim()
            run.ask_requeue(False)
            if changes:
                print(f"changed since the last start: {'; '.join(changes)}", flush=True)
        except UserError as error:
            refusal = str(error), error.exit_code
    refusal = world.broadcast_object(refusal)
    if refusal is not None:
        raise UserError(refusal[0], exit_code=refusal[1])
    return run


def train_rank(recipe: Recipe, arguments: argparse.Namespace, world: World, stop: StopRequest) -> int:
    """Train as one rank of `world`, until the end or until `stop` is true on some rank."""
    from launch.data import open_data

    data = open_data(recipe, world.size)
    going_on = arguments.resume or is_restart()
    run = claim_run(recipe, arguments, world, going_on)
    try:
        return train_run(recipe, arguments, world, stop, data, run, going_on)
    finally:
        run.release()


def train_run(
    recipe: Recipe,
    arguments: argparse.Namespace,
    world: World,
    stop: StopRequest,
    data: TrainingData,
    run: Run,
    going_on: bool,
) -> int:
    """Build what the recipe names, take up the newest checkpoint, and train."""
    from cacl.loss import global_loss
    from cacl.options import plain
    from cacl.training.trainer import Plan, Task, newest_checkpoint, resume, train
    from launch.data import validation_of

    found = newest_checkpoint(run, world) if going_on else None
    engine, average = build(recipe, world, arguments.init_from if found is None else None)
    first_step = resume(engine, average, found, data.identity) if found else 0
    total = data.order.batches_per_epoch * recipe.training.epochs
    plan = Plan(data.order.batches_per_epoch, total, min(total, arguments.max_steps or total))
    origin = {"recipe": plain(recipe), "environment": describe()}
    if world.is_main:
        run.create(**origin)
        run.forget_after(first_step)
        print(began(run, first_step, plan.last_step, world.size), flush=True)
    if first_step >= plan.last_step:
        return 0
    task = Task(
        batches=data.stream(world, first_step),
        clips_of=data.clips_on(world.device),
        loss_at=lambda step: partial(global_loss, options=recipe.loss, world=world, step=step),
        after_update=lambda: recipe.loss.clamp_(dict(engine.module.scalars)),
        validate=validation_of(recipe, engine, world),
        stop=stop,
        identity=data.identity,
        origin=origin,
    )
    outcome = train(engine, average, task, recipe.training, recipe.schedule, plan, run, first_step)
    if world.is_main:
        run.ask_requeue(outcome == "stopped")
        last = f"stopped on a signal; go on with --resume --run-dir {run.folder}"
        print(last if outcome == "stopped" else f"finished; the run is in {run.folder}", flush=True)
    return 0


def build(recipe: Recipe, world: World, weights: str | None) -> tuple[Engine, Ema | None]:
    """Return the recipe's model in its engine, with `weights` where they are given, and its average."""
    from cacl.model.acceleration import speed_up
    from cacl.runs.load import build_model, load_weights
    from cacl.training.ema import Ema

    training = recipe.training
    model = build_model(recipe.model, recipe.loss, training.seed)
    if weights is not None:
        mismatches = load_weights(model, weights)
        if world.is_main:
            print(f"weights from {weights}; {mismatches}", flush=True)
    speed_up(model, training.compile, training.channels_last, training.activation_checkpointing)
    engine = recipe.engine.build(
        model, recipe.optimizer, world, training.precision, training.clip_gradient_norm
    )
    if training.non_finite == "skip" and not engine.can_skip:
        raise UserError(f"training.non_finite: the engine {recipe.engine.name} cannot skip a step; use stop")
    if training.ema_decay is None:
        return engine, None
    if not engine.can_average:
        raise UserError(
            "training.ema_decay: ZeRO 3 leaves no rank a whole model to average; use engine.zero 2"
        )
    return engine, Ema(engine.module, training.ema_decay)


def began(run: Run, first_step: int, last_step: int, ranks: int) -> str:
    """Return what a training says before its first step."""
    if first_step >= last_step:
        return f"nothing left to do: {run.folder} has come to step {first_step} of {last_step}"
    where = f"from step {first_step}" if first_step else "from the start"
    return f"training {where} to step {last_step} on {ranks} rank(s), run {run.folder}"


class StopRequest:
    """Becomes true when this process is told to stop; the trainer asks it at every step."""

    def __init__(self) -> None:
        self.asked = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __call__(self) -> bool:
        """Say whether a signal has come."""
        return self.asked


def is_restart() -> bool:
    """Say whether torchrun or SLURM has started this job again."""
    names = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name) or 0) for name in names)


def default_run_dir(recipe_file: str) -> str:
    """Return a run directory that no run has used: the recipe's name and the time."""
    return f"runs/{Path(recipe_file).stem}-{time.strftime('%Y%m%d-%H%M%S')}"


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["train", *sys.argv[1:]]))
