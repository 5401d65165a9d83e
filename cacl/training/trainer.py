"""The training loop: steps, checkpoints with validation, stopping and resuming.

Axes: `n` clips on this rank, `m` in a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.processes import GO_ON, INTERRUPT, STOP, closing
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.runs.load import CHOICE
from cacl.training.ema import Ema
from cacl.training.engines.base import Engine
from cacl.training.heartbeat import Heartbeat
from cacl.training.logbook import Logbook
from cacl.training.meter import Meter, PendingStep
from cacl.training.optimization import ScheduleOptions
from cacl.training.options import TrainingOptions
from cacl.training.step import train_step
from cacl.training.stopping import StopFlag
from cacl.types import Batch, ClipLabels
from cacl.world import World

EMA_FILE = "ema.safetensors"


@dataclass(frozen=True)
class Plan:
    """How far to train."""

    batches_per_epoch: int
    total_steps: int
    """Length of the schedule."""
    last_step: int
    """Where to stop: `total_steps`, or earlier when the user says so."""
    first_step: int = 0
    """Steps that a checkpoint has taken already."""
    validate_first: bool = False
    """That checkpoint was to be validated, and a stop left no time for it."""


Validation = Callable[[int, Callable[[], int]], dict[str, float] | None]
"""Gives a step's figures, or None once its second argument, asked between batches, says there is no time."""


@dataclass(frozen=True)
class Training:
    """Everything that one training consists of on one rank."""

    engine: Engine
    average: Ema | None
    """The moving average of the model, which also makes the targets."""
    batches: Iterator[Batch]
    """This rank's share of each global batch, from the first step's position on."""
    join_labels: Callable[[Tensor, Tensor], ClipLabels]
    """Joins labels to `index` [n] and `valid` [n]."""
    loss: LossOptions
    options: TrainingOptions
    schedule: ScheduleOptions
    plan: Plan
    run: Run
    """Where checkpoints and log go."""
    validate: Validation | None = None
    """Measures the model on a clean validation split; every rank calls it together."""
    stop_requested: Callable[[], int] = lambda: False
    """Asked before the first step and at every step on every rank: if any says so, all save at the same one.

    It says whether to stop, or one of GO_ON, STOP and INTERRUPT of `cacl.processes`."""
    identity: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of data and labels, which checkpoints record and compare."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Recipe and versions of the code, which checkpoints record."""
    counts: Callable[[int], dict[str, int]] = lambda step: {}
    """How many clips of each data set a step's batch has, for the log; nothing where there is one."""


Outcome = Literal["finished", "stopped", "interrupted"]
"""To its end; saved, to be started again; saved, by a person who will say when to go on."""


def newest_checkpoint(run: Run, world: World) -> Path | None:
    """Return the newest valid checkpoint of a run. Rank 0 chooses, so that all take the same one."""
    found = checkpoint.latest_valid(run.checkpoints) if world.is_main else None
    name = world.broadcast_object(found and found.name)
    return run.checkpoints / name if name else None


def owes_validation(folder: Path, last_step: int, checkpoint_every: int) -> bool:
    """Say whether a stop has left a checkpoint without the validation that was due at its step."""
    state = checkpoint.read_state(folder)
    due = state["step"] == last_step or state["step"] % checkpoint_every == 0
    return bool(due and state.get("validation") is None)


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


def train(training: Training) -> Outcome:
    """Train up to `plan.last_step`, or to a stop, and leave a checkpoint there.

    The batches' workers end with it, however it ends.
    Raises UserError with the clips' indices if loss or gradient is not finite and that ends the run.
    """
    engine, options, plan, run = training.engine, training.options, training.plan, training.run
    world = engine.world
    writer = checkpoint.Writer(run.checkpoints, options.keep_checkpoints, CHOICE)
    logbook = Logbook(run, options.log, plan.first_step, plan.last_step) if world.is_main else None
    stop = StopFlag(training.stop_requested, world)
    step = plan.first_step
    with (
        closing(training.batches),
        Heartbeat(run.folder, world, options.distributed_timeout) as heartbeat,
        profiler(options.profile_steps if world.is_main else 0, run.folder / "trace.json") as profile,
    ):
        checkpointer = Checkpointer(training, writer, logbook, heartbeat)
        stop.exchange()
        told = stop.read()
        if plan.validate_first and not told:
            told = checkpointer.save(step, told)
        meter = Meter(world, plan.batches_per_epoch)
        reader = StepReader(meter, logbook, options.non_finite, world, training.counts)
        while step < plan.last_step and not told:
            heartbeat.at(step, "waiting for data")
            with world.clock("data", host=True):
                batch = next(training.batches)
            heartbeat.at(step, "computing")
            with world.clock("prepare"):
                micro_batches = prepare(engine, batch, options.micro_batch)
            factor = training.schedule.factor(step, plan.total_steps)
            record = train_step(
                engine,
                micro_batches,
                training.join_labels(batch.index, batch.valid),
                partial(
                    global_loss,
                    options=training.loss,
                    world=world,
                    step=step,
                    epoch=step // plan.batches_per_epoch,
                ),
                seed=options.seed,
                step=step,
                learning_rate_factor=factor,
                average=training.average,
            )
            training.loss.clamp_(dict(engine.module.scalars))
            step += 1
            told = stop.exchange()
            reader.add(meter.close_step(step, engine.base_rates[0] * factor, record, batch.index))
            if told or step == plan.last_step or step % options.checkpoint_every == 0:
                # Read first: a step that a checkpoint holds stands in the log, and was finite.
                reader.finish()
                told = stop.read() or told
                with world.clock("checkpoint", host=True):
                    told = checkpointer.save(step, told)
            if profile is not None:
                profile.step()
        writer.wait()
    meter.close()
    if logbook is not None:
        logbook.close()
    if told and (step < plan.last_step or training.validate is not None):
        return "interrupted" if told == INTERRUPT else "stopped"
    return "finished"


@dataclass
class StepReader:
    """Reads each step when the next one has been taken, checks that it is finite, and logs it."""

    meter: Meter
    logbook: Logbook | None
    non_finite: Literal["stop", "skip"]
    world: World
    counts: Callable[[int], dict[str, int]] = lambda step: {}
    skipped: int = 0
    _pending: PendingStep | None = None

    def add(self, step: PendingStep) -> None:
        """Take a step, and read the one before it."""
        before, self._pending = self._pending, step
        if before is not None:
            self._read(before)

    def finish(self) -> None:
        """Read the step that was taken last, now."""
        if self._pending is not None:
            self._read(self._pending)
        self._pending = None

    def _read(self, pending: PendingStep) -> None:
        report = self.meter.read(pending)
        if not report.is_finite:
            self._refuse_or_skip(pending.step, report.bad_clips)
        more: dict[str, Any] = {"skipped_steps": self.skipped} if self.skipped else {}
        if self.logbook is not None:
            if counts := self.counts(pending.step):
                more["sources"] = counts
            self.logbook.write_step({**report.line, **more})

    def _refuse_or_skip(self, step: int, bad_clips: list[int]) -> None:
        indices = sorted(index for part in self.world.gather_objects(bad_clips) for index in part)
        self.skipped += 1
        text = f"step {step}: loss or gradient is not finite; clips {indices or 'unknown'}"
        if self.non_finite == "stop":
            raise UserError(f"{text}; see training.non_finite, learning rate and temperature", exit_code=1)
        if self.logbook is not None:
            self.logbook.say(f"{text}; the update was skipped")


def prepare(engine: Engine, batch: Batch, micro_batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Cut this rank's share into micro-batches and do what needs no gradient (see `Localizer.prepare`)."""
    pieces = zip(batch.images.split(micro_batch_size), batch.waveforms.split(micro_batch_size), strict=True)
    return [engine.prepare(images, waveforms) for images, waveforms in pieces]


@dataclass(frozen=True)
class Checkpointer:
    """Validates and writes a checkpoint; every rank calls it after the same step."""

    training: Training
    writer: checkpoint.Writer
    logbook: Logbook | None
    heartbeat: Heartbeat

    def save(self, step: int, told: int) -> int:
        """Return what all ranks were told: `told`, or something while validating.

        A stop leaves no time to validate: the grace period belongs to the checkpoint. The next start does it.
        """
        self.heartbeat.at(step, "checkpoint")
        training, engine = self.training, self.training.engine
        measured = None
        if training.validate is not None and not told:
            measured = training.validate(step, lambda: self._stop_requested(step))
            told = GO_ON if measured is not None else self._told()
        if self.logbook is not None and measured is not None:
            self.logbook.write_validation(step, measured)
        main = engine.world.is_main
        folder = self.writer.begin(step) if main else None
        if engine.has_parts:
            engine.save_parts(Path(engine.world.broadcast_object(str(folder))))
            engine.world.barrier()
        files = engine.state_files()
        if main:
            if training.average is not None:
                files[EMA_FILE] = training.average.state_dict()
            self.writer.save(step, files, self._state(step, measured))
        return told

    def _stop_requested(self, step: int) -> int:
        """Asked before every batch of a validation, which is a sign of life too."""
        self.heartbeat.at(step, "checkpoint")
        return self.training.stop_requested()

    def _told(self) -> int:
        """Return what has ended a validation, the same on all ranks, though who said it may be silent now."""
        flag = StopFlag(self.training.stop_requested, self.training.engine.world)
        flag.exchange()
        return flag.read() or STOP

    def _state(self, step: int, measured: dict[str, float] | None) -> dict[str, Any]:
        epoch, batch = divmod(step, self.training.plan.batches_per_epoch)
        return {
            "position": {"epoch": epoch, "batch": batch},
            "world_size": self.training.engine.world.size,
            "identity": self.training.identity,
            "validation": measured,
            **self.training.origin,
        }


def profiler(steps: int, path: Path) -> AbstractContextManager[torch.profiler.profile | None]:
    """Return the profiler of `steps` steps after two of warm-up, which writes a Chrome trace; none for 0."""
    if not steps:
        return nullcontext()
    return torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=1, warmup=1, active=steps, repeat=1),
        on_trace_ready=lambda profile: profile.export_chrome_trace(str(path)),
    )
