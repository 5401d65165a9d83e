"""The training loop: steps, checkpoints with validation, stopping and going on.

Axes: `n` clips on this rank, `m` in a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from cacl.errors import UserError
from cacl.options import Options
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.runs.load import CHOICE
from cacl.training.ema import Ema
from cacl.training.engines.base import Engine
from cacl.training.heartbeat import Heartbeat
from cacl.training.meter import Meter, Pending
from cacl.training.optimization import Fraction, ScheduleOptions
from cacl.training.sinks import SINKS, SinkName
from cacl.training.step import Loss, train_step
from cacl.types import Batch, Clips
from cacl.world import World

EMA_FILE = "ema.safetensors"


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How long, in what portions, and what is kept."""

    global_batch_size: PositiveInt = 120
    """Clips of one step over all ranks: a multiple of the data set's lanes."""
    micro_batch_size: PositiveInt = 60
    """Clips of one forward: the unit that BatchNorm and dropout see, whatever the number of ranks."""
    epochs: PositiveInt = 10
    seed: NonNegativeInt = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_gradient_norm: PositiveFloat | None = None
    ema_decay: Fraction | None = None
    """Keep a moving average of the model, which also makes the targets of losses that have them."""
    checkpoint_every: PositiveInt = 100
    """Steps between checkpoints; each is measured on `data.validation` where that is given."""
    keep_checkpoints: PositiveInt = 2
    """The newest so many are kept, and the best by validation."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What a gradient that is not finite does: end the run, or be skipped and counted."""
    distributed_timeout: PositiveFloat = 600.0
    """Seconds that a rank waits for the others before the job ends and names the one that hangs."""
    compile: bool = False
    """Compile the encoders."""
    channels_last: bool = False
    """Keep images and kernels with channels innermost."""
    activation_checkpointing: bool = False
    """Compute the encoders' activations again in the backward pass instead of keeping them."""
    log: tuple[SinkName, ...] = ()
    """Where train.jsonl's lines go as well."""
    profile_steps: NonNegativeInt = 0
    """Write a torch-profiler trace of so many steps to trace.json in the run directory."""


@dataclass(frozen=True)
class Plan:
    """How far to train."""

    batches_per_epoch: int
    total_steps: int
    """Length of the schedule."""
    last_step: int
    """Where to stop: `total_steps`, or earlier when the user says so."""


Validation = Callable[[Callable[[], bool]], dict[str, float] | None]
"""Gives figures, or None once its argument, asked between batches, says that there is no time."""


@dataclass(frozen=True)
class Task:
    """What is trained on: everything that is a function and not a number."""

    batches: Iterator[Batch]
    """This rank's share of each global batch, from the first step's position on."""
    clips_of: Callable[[Tensor, Tensor], Clips]
    """Joins labels to `index` [n] and `valid` [n]."""
    loss_at: Callable[[int], Loss]
    """The loss of a step."""
    after_update: Callable[[], None]
    """Puts learned scalars back within their bounds."""
    validate: Validation | None
    """Measures the model on a clean validation split; every rank calls it together."""
    stop: Callable[[], bool]
    """Asked at every step on every rank: if any says so, all write a checkpoint after the same step."""
    identity: dict[str, Any]
    """Fingerprints of data and labels, which checkpoints record and compare."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Recipe and versions of the code, which checkpoints record."""


Outcome = Literal["finished", "stopped"]


def newest_checkpoint(run: Run, world: World) -> Path | None:
    """Return the newest valid checkpoint of a run. Rank 0 chooses, so that all take the same one."""
    found = checkpoint.latest_valid(run.checkpoints) if world.is_main else None
    name = world.broadcast_object(found and found.name)
    return run.checkpoints / name if name else None


def resume(engine: Engine, average: Ema | None, folder: Path, identity: dict[str, Any]) -> int:
    """Load a checkpoint on every rank and return its step.

    `identity` (fingerprints of data and labels) must be what the checkpoint was trained on. Raises UserError
    for another one.
    """
    state = checkpoint.read_state(folder)
    for name, value in identity.items():
        if state["identity"].get(name) != value:
            raise UserError(
                f"{folder}: was trained on another {name} ({state['identity'].get(name)}) than the recipe "
                f"names now ({value}); give a new --run-dir, or restore the {name}"
            )
    engine.load(folder)
    if average is not None:
        average.load_state_dict(checkpoint.read_tensors(folder / EMA_FILE))
    return int(state["step"])


def train(
    engine: Engine,
    average: Ema | None,
    task: Task,
    options: TrainingOptions,
    schedule: ScheduleOptions,
    plan: Plan,
    run: Run,
    first_step: int,
) -> Outcome:
    """Train from `first_step` to `plan.last_step`, or to a stop, and leave a checkpoint there."""
    world = engine.world
    writer = checkpoint.Writer(run.checkpoints, options.keep_checkpoints, CHOICE)
    sinks = [SINKS[name](run.folder) for name in options.log] if world.is_main else []
    meter = Meter(world, run, sinks, options.non_finite, plan.batches_per_epoch, first_step, plan.last_step)
    pending: Pending | None = None
    step, stopped = first_step, False
    with (
        Heartbeat(run.folder, world, options.distributed_timeout) as heartbeat,
        profiler(options.profile_steps if world.is_main else 0, run.folder / "trace.json") as profile,
    ):
        save = Saver(engine, average, task, meter, writer, heartbeat)
        while step < plan.last_step and not stopped:
            heartbeat.at(step, "waiting for data")
            with world.clock("data", host=True):
                batch = next(task.batches)
            heartbeat.at(step, "computing")
            with world.clock("prepare"):
                micro_batches = prepared(engine, batch, options.micro_batch_size)
            factor = schedule.factor(step, plan.total_steps)
            record = train_step(
                engine,
                micro_batches,
                task.clips_of(batch.index, batch.valid),
                task.loss_at(step),
                seed=options.seed,
                step=step,
                learning_rate_factor=factor,
                average=average,
            )
            task.after_update()
            step += 1
            asked = world.max(torch.full((1,), float(task.stop()), device=world.device))
            latest = meter.lap(step, engine.base_rates[0] * factor, record, asked, batch.index)
            if pending is not None:
                stopped = meter.read(pending)
            pending = latest
            if stopped or step == plan.last_step or step % options.checkpoint_every == 0:
                # Read first: a step that a checkpoint holds stands in the log, and was finite.
                stopped = meter.read(pending) or stopped
                pending = None
                with world.clock("checkpoint", host=True):
                    stopped = save(step, stopped)
            if profile is not None:
                profile.step()
        writer.wait()
    meter.close()
    return "finished" if step == plan.last_step else "stopped"


def prepared(engine: Engine, batch: Batch, micro_batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Cut this rank's share into micro-batches and do what needs no gradient (see `Localizer.prepare`)."""
    pieces = zip(batch.images.split(micro_batch_size), batch.waveforms.split(micro_batch_size), strict=True)
    return [engine.prepare(images, waveforms) for images, waveforms in pieces]


@dataclass(frozen=True)
class Saver:
    """Validates and writes a checkpoint; every rank calls it after the same step."""

    engine: Engine
    average: Ema | None
    task: Task
    meter: Meter
    writer: checkpoint.Writer
    heartbeat: Heartbeat

    def __call__(self, step: int, stopped: bool) -> bool:
        """Return whether to stop: `stopped`, or told so while validating.

        A stop leaves no time to validate: the grace period belongs to the checkpoint.
        """
        self.heartbeat.at(step, "checkpoint")
        measured = None
        if self.task.validate is not None and not stopped:
            measured = self.task.validate(lambda: self._told_to_stop(step))
            stopped = measured is None
        main = self.engine.world.is_main
        if main and measured is not None:
            self.meter.write({"step": step, "validation": measured})
        folder = self.writer.begin(step) if main else None
        if self.engine.has_parts:
            self.engine.save_parts(Path(self.engine.world.broadcast_object(str(folder))))
            self.engine.world.barrier()
        files = self.engine.state_files()
        if main:
            if self.average is not None:
                files[EMA_FILE] = self.average.state_dict()
            self.writer.save(step, files, self._state(step, measured))
        return stopped

    def _told_to_stop(self, step: int) -> bool:
        """Asked before every batch of a validation, which is a sign of life too."""
        self.heartbeat.at(step, "checkpoint")
        return self.task.stop()

    def _state(self, step: int, measured: dict[str, float] | None) -> dict[str, Any]:
        epoch, batch = divmod(step, self.meter.batches_per_epoch)
        return {
            "position": {"epoch": epoch, "batch": batch},
            "world_size": self.engine.world.size,
            "identity": self.task.identity,
            "validation": measured,
            **self.task.origin,
        }


def profiler(steps: int, path: Path) -> AbstractContextManager[torch.profiler.profile | None]:
    """Return the profiler of `steps` steps after two of warm-up, which writes a Chrome trace; none for 0."""
    if not steps:
        return nullcontext()
    return torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=1, warmup=1, active=steps, repeat=1),
        on_trace_ready=lambda profile: profile.export_chrome_trace(str(path)),
    )
