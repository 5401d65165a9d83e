"""Train from a recipe, as one rank of many or alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.loss.precision import in_effect, shortfall
from cacl.model.acceleration import speed_up
from cacl.model.localizer import Localizer, ModelOptions
from cacl.options import plain
from cacl.runs import calibration, checkpoint
from cacl.runs.directory import Run
from cacl.runs.load import build_model, load_weights
from cacl.training import trainer
from cacl.training.ema import Ema
from cacl.training.engines.base import Engine
from cacl.training.memory import kept_memory
from cacl.training.trainer import Outcome, Plan, Training
from cacl.types import Batch
from cacl.world import World
from launch.jobs import Say
from launch.jobs.changes import check_changes
from launch.jobs.data import TrainingData, open_data, validation_of
from launch.jobs.environment import describe
from launch.jobs.recipe import Recipe

NewModel = Callable[[ModelOptions, LossOptions, int], Localizer]
"""From the options of model and loss and a seed to a model before its first step."""


def train(
    recipe: Recipe,
    run_dir: str | Path,
    world: World | None = None,
    *,
    resume: bool = False,
    max_steps: int | None = None,
    init_from: str | None = None,
    stop_requested: Callable[[], int] = lambda: False,
    say: Say = lambda sentence: None,
    batches: Callable[[TrainingData, int], Iterator[Batch]] | None = None,
    new_model: NewModel = build_model,
) -> Outcome:
    """Train to the recipe's end, to `max_steps`, or until `stop_requested` is true on some rank.

    Every rank of `world` calls this. `resume` takes up the newest valid checkpoint in `run_dir`, if there is
    one; `init_from` gives a new run the weights of a run or of a .safetensors file. `batches`, from the data
    and the first step, and `new_model` put other inputs in place of decoded clips, such as cached features,
    and a model that takes them. Raises UserError if the run directory is taken, or if recipe, data and labels
    do not fit each other.
    """
    world = world or World()
    data = open_data(recipe, world.size)
    run = lock_run_dir(run_dir, recipe, world, resume, say)
    try:
        found = trainer.newest_checkpoint(run, world) if resume else None
        engine, average = build(recipe, world, None if found else init_from, say, new_model)
        first_step = trainer.resume(engine, average, found, data.identity) if found else 0
        total, last_step = count_steps(data, max_steps)
        owing = (
            found is not None
            and recipe.data.validation is not None
            and first_step <= last_step
            and trainer.owes_validation(found, last_step, recipe.training.checkpoint_every)
        )
        plan = Plan(data.order.batches_per_epoch, total, last_step, first_step, owing)
        scores = recipe.loss.scores
        environment = {**describe(), "scores": in_effect(scores, world.device)}
        origin = {"recipe": plain(recipe), "environment": environment}
        if world.is_main:
            run.create(**origin)
            run.truncate_log(first_step)
            if missed := shortfall(scores, world.device):
                say(missed)
            if remark := data.remark():
                say(remark)
                run.log({"step": first_step, "remark": remark})
            for sentence in data.describe():
                say(sentence)
            data.write_pairs(run.folder)
            say(beginning(run, plan, world.size))
        if first_step >= plan.last_step and not owing:
            return "finished"
        training = Training(
            engine=engine,
            average=average,
            batches=batches(data, first_step) if batches else data.stream(world, first_step),
            join_labels=data.label_joiner(world.device),
            loss=recipe.loss,
            options=recipe.training,
            schedule=recipe.schedule,
            plan=plan,
            run=run,
            validate=validation_of(recipe, engine, world, average, run),
            stop_requested=stop_requested,
            identity=data.identity,
            origin=origin,
            counts=data.counts,
        )
        with kept_memory() if world.device.type == "cpu" else nullcontext():
            outcome = trainer.train(training)
        if world.is_main:
            calibration.clear(run)
            run.ask_requeue(outcome == "stopped")
            say(ending(run, outcome, recipe))
        return outcome
    finally:
        run.release()


def count_steps(data: TrainingData, max_steps: int | None) -> tuple[int, int]:
    """Return the steps of the whole recipe, and where a training of at most `max_steps` ends."""
    total = data.order.batches_per_epoch * data.recipe.training.epochs
    return total, min(total, max_steps or total)


def is_finished(run: Run, data: TrainingData, max_steps: int | None) -> bool:
    """Say whether the checkpoint of a run's last step is there, with the validation that is due."""
    found = checkpoint.latest_valid(run.checkpoints)
    _, last_step = count_steps(data, max_steps)
    if found is None or checkpoint.read_state(found)["step"] != last_step:
        return False
    every, validation = data.recipe.training.checkpoint_every, data.recipe.data.validation
    return validation is None or not trainer.owes_validation(found, last_step, every)


def check_run(run: Run, recipe: Recipe, resuming: bool) -> list[str]:
    """Return how the recipe changes a run that is resumed, a sentence a change.

    Raises UserError where the run directory is taken, or holds a run of another recipe.
    """
    if not run.is_used():
        return []
    if not resuming:
        raise UserError(
            f"{run.folder}: holds a run already; go on with it by --resume, or name another --run-dir"
        )
    run.lock()
    run.release()
    return check_changes(run, recipe) if checkpoint.step_folders(run.checkpoints) else []


def lock_run_dir(run_dir: str | Path, recipe: Recipe, world: World, resuming: bool, say: Say) -> Run:
    """Return the run directory, locked by rank 0. Raises UserError on every rank if it cannot be."""
    run = Run(world.broadcast_object(str(run_dir)))
    refusal = None
    if world.is_main:
        try:
            changes = check_run(run, recipe, resuming)
            run.lock()
            run.ask_requeue(False)
            if changes:
                say(f"changed since the last start: {'; '.join(changes)}")
        except UserError as error:
            refusal = str(error), error.exit_code
    refusal = world.broadcast_object(refusal)
    if refusal is not None:
        raise UserError(refusal[0], exit_code=refusal[1])
    return run


def build(
    recipe: Recipe, world: World, weights: str | None, say: Say, new_model: NewModel
) -> tuple[Engine, Ema | None]:
    """Return the recipe's model in its engine, with `weights` if they are given, and its average."""
    training = recipe.training
    model = new_model(recipe.model, recipe.loss, training.seed)
    if weights is not None:
        mismatches = load_weights(model, weights)
        if world.is_main:
            say(f"weights from {weights}; {mismatches}")
    speed_up(model, training.compile, training.channels_last, training.activation_checkpointing)
    engine = recipe.engine.build(
        model, recipe.optimizer, world, training.precision, training.clip_gradient_norm
    )
    engine.check(training)
    decay = training.ema_decay
    return engine, None if decay is None else Ema(engine.module, decay, training.target)


def beginning(run: Run, plan: Plan, ranks: int) -> str:
    """Return what a training says before its first step."""
    if plan.first_step >= plan.last_step and not plan.validate_first:
        return f"nothing left to do: {run.folder} has come to step {plan.first_step} of {plan.last_step}"
    where = f"from step {plan.first_step}" if plan.first_step else "from the start"
    return f"training {where} to step {plan.last_step} on {ranks} rank(s), run {run.folder}"


def ending(run: Run, outcome: Outcome, recipe: Recipe) -> str:
    """Return what a training says after its last step: where it is, and how to look at it."""
    if outcome == "finished":
        data = recipe.data
        look = f"cacl report --run {run.folder} --data {data.validation or data.sources[0].path}"
        if data.test is not None:
            look = f"cacl evaluate --run {run.folder}; cacl report --run {run.folder}"
        return f"finished; the run is in {run.folder}; look at it: {look}"
    saved = checkpoint.step_folders(run.checkpoints)
    what = f"saved {saved[0].name}" if saved else "nothing to save yet"
    how = "stopped on a signal" if outcome == "stopped" else "interrupted"
    return f"{how}; {what}; go on with --resume --run-dir {run.folder}"
