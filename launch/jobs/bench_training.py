"""The training step by part, and the loss, on random clips.

The step is that of the paper's pair (two ResNet-18, frames of 224 x 224, 3 s of sound, D = 512) in the real
trainer.

Axes: `N` clips, `P` places of a map, `D` channels.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cacl.loss import LossOptions, global_loss
from cacl.loss.kernel import is_ampere
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip
from cacl.loss.similarities import MaxSimilarity
from cacl.model import audio, image
from cacl.model.acceleration import speed_up
from cacl.model.localizer import Localizer, ModelOptions
from cacl.runs.directory import Run
from cacl.training.engines import DDP
from cacl.training.engines.base import Engine, Precision
from cacl.training.optimization import AdamW, Constant
from cacl.training.options import TrainingOptions
from cacl.training.trainer import Plan, Training, train
from cacl.types import Batch, ClipLabels, Embeddings
from cacl.world import World
from launch.jobs.timing import Row, Sizes, free, peak, reset_peak, row, time_of

RATE, SECONDS = 16_000, 3
PLACES, CHANNELS = 49, 512
LOSS = LossOptions(
    similarity=MaxSimilarity(), positives=OwnClip(), objective=InfoNCE(), direction="both", temperature=0.03
)
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Floating-point operations a second of a card's matrix units in bfloat16, as its maker says."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""From maps [N, 1, P, D] and sounds [N, 1, D] to a 0-d loss."""


@dataclass(frozen=True)
class _Form:
    """A form of the step."""

    clips: int
    micro: int
    precision: Precision = "bfloat16"
    channels_last: bool = True
    compile: bool = False

    @property
    def name(self) -> str:
        words = [f"micro={self.micro}", self.precision]
        words += ["channels-last"] * self.channels_last + ["compiled"] * self.compile
        return f"step/N={self.clips}/{','.join(words)}"


def _forms(device: torch.device, sizes: Sizes) -> Iterator[_Form]:
    first, *others = sizes.steps
    yield _Form(first, sizes.micro, "float32", channels_last=False)
    yield _Form(first, sizes.micro, channels_last=False)
    yield _Form(first, sizes.micro)
    if sizes.compiled:
        yield _Form(first, sizes.micro, compile=True)
    for clips in others:
        yield _Form(clips, sizes.micro)
    yield _Form(sizes.steps[-1], sizes.steps[-1])


def steps(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure the trainer's step, by part, and the share of the chip's peak that its operations make."""
    flop = forward_flop(sizes.side)
    best = peak_of(device)
    for form in _forms(device, sizes):
        try:
            lines = train_steps(
                build(device, form), batch_of(form.clips, sizes.side), form.micro, sizes.taken
            )
        except torch.OutOfMemoryError:
            yield Row(form.name, None, "s", more={"why": "out of memory"})
            free(device)
            continue
        seconds = [line["step_seconds"] for line in lines]
        median = statistics.median(seconds)
        passes = 3 if form.clips <= form.micro else 4
        rate = passes * flop * form.clips / median
        parts = {
            part: round(statistics.median(line["seconds"].get(part, 0.0) for line in lines), 6)
            for part in lines[-1]["seconds"]
        }
        more = {
            "clips_per_second": round(form.clips / median, 1),
            "parts": parts,
            "tflop_per_second": round(rate / 1e12, 3),
            "memory_mib": lines[-1]["memory_mib"],
        }
        if best and form.precision == "bfloat16":
            more["share_of_peak"] = round(rate / best, 4)
        yield row(form.name, seconds, **more)
        free(device)


def build(device: torch.device, form: _Form) -> Engine:
    """Return an engine with the paper's pair."""
    model = Localizer(pair(), LOSS.scalars()).train()
    speed_up(model, form.compile, form.channels_last, False)
    return DDP().build(model, AdamW(), World(device=device), form.precision)


def pair() -> ModelOptions:
    """Return the paper's two ResNet-18."""
    return ModelOptions(image=image.ResNet18(), audio=audio.ResNet18(), dimension=CHANNELS)


def batch_of(clips: int, side: int) -> Batch:
    """Return random clips as a loader delivers them."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (clips, 3, side, side), generator=draw, dtype=torch.uint8)
    waveforms = torch.rand(clips, SECONDS * RATE, generator=draw) * 2 - 1
    return Batch(torch.arange(clips), images, waveforms, torch.ones(clips, dtype=torch.bool))


def train_steps(engine: Engine, batch: Batch, micro: int, steps: int) -> list[dict[str, Any]]:
    """Take so many steps by the trainer, and return the log of the last two thirds."""
    options = TrainingOptions(global_batch_size=len(batch.index), micro_batch_size=micro)
    # One step more than is read: the last ends in a checkpoint, which is not the step's.
    lines = log_of_steps(engine, itertools.repeat(batch), LOSS, options, steps + 1)
    return lines[steps // 3 : steps]


def log_of_steps(
    engine: Engine, batches: Iterator[Batch], loss: LossOptions, options: TrainingOptions, steps: int
) -> list[dict[str, Any]]:
    """Take steps by the trainer in a run directory of its own; return its log, on rank 0 alone.

    Every clip is a class of its own.
    """
    device = engine.world.device

    def join_labels(index: Tensor, valid: Tensor) -> ClipLabels:
        return ClipLabels(index, index, torch.ones(len(index)), valid).to(device)

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        run.folder.mkdir()
        training = Training(
            engine=engine,
            average=None,
            batches=batches,
            join_labels=join_labels,
            loss=loss,
            options=options,
            schedule=Constant(),
            plan=Plan(steps, steps, steps),
            run=run,
        )
        train(training)
        return run.records() if engine.world.is_main else []


def forward_flop(side: int) -> float:
    """Return the floating-point operations of one clip's forward."""
    model, batch = Localizer(pair(), LOSS.scalars()).eval(), batch_of(1, side)
    prepared = model.prepare(batch.images, batch.waveforms)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*prepared)
    return float(counter.get_total_flops())


def peak_of(device: torch.device) -> float | None:
    """Return the card's peak in bfloat16, where it is one that `PEAKS` knows."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for card, peak in PEAKS.items() if card in name), None)


def losses(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure forward and backward of the `max` loss, and of the tensor of all pairs' places in float32."""
    forms: dict[str, Loss] = {name: partial(ours, options) for name, options in kernels(device).items()}
    for name, loss in {"full-tensor": full_tensor, **forms}.items():
        # Of budgets and precisions the largest would take minutes.
        for n in sizes.losses[: -1 if "," in name else None]:
            yield measure_loss(f"loss/{name}/N={n}", loss, *vectors(n, device), sizes.seconds)
            free(device)


def kernels(device: torch.device) -> dict[str, LossOptions]:
    """Return the loss by the name of each way to compute it: kernels, budgets, precisions of scores."""
    by_kernel = {"torch": replace(LOSS, kernel="torch")}
    if device.type == "cuda":
        by_kernel["triton"] = replace(LOSS, kernel="triton")
    ways: dict[str, dict[str, Any]] = {
        "": {},
        ",128-MiB": {"memory_mib": 128},
        ",4-GiB": {"memory_mib": 4096},
        **({",tf32": {"scores": "tf32"}} if is_ampere(device) else {}),
        ",bfloat16": {"scores": "bfloat16"},
    }
    return {
        name + more: replace(options, **way)
        for name, options in by_kernel.items()
        for more, way in ways.items()
    }


def vectors(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return unit vectors that collect gradients: maps [N, 1, P, D] and sounds [N, 1, D]."""
    draw = torch.Generator(device).manual_seed(n)
    maps = torch.randn(n, 1, PLACES, CHANNELS, generator=draw, device=device)
    sounds = torch.randn(n, 1, CHANNELS, generator=draw, device=device)
    maps /= maps.norm(dim=-1, keepdim=True)
    return maps.requires_grad_(), functional.normalize(sounds, dim=-1).requires_grad_()


def ours(options: LossOptions, maps: Tensor, sounds: Tensor) -> Tensor:
    """Return our loss of clips that are classes of their own."""
    index = torch.arange(len(maps), device=maps.device)
    valid = torch.ones(len(maps), dtype=torch.bool, device=maps.device)
    clips = ClipLabels(index, index, torch.ones(len(maps), device=maps.device), valid)
    return global_loss(Embeddings(maps, sounds), clips, options, World(device=maps.device)).loss


def full_tensor(maps: Tensor, sounds: Tensor) -> Tensor:
    """Return the same loss by the tensor [N, P, N], as public code writes it: one product, then a maximum."""
    products = (maps.flatten(0, 2) @ sounds.flatten(1).T).view(len(maps), -1, len(maps))
    return info_nce(products.amax(1))


def info_nce(scores: Tensor) -> Tensor:
    """Return InfoNCE of rows plus that of columns, of scores [N, N] of images and sounds."""
    logits = scores / LOSS.temperature
    target = torch.arange(len(logits), device=logits.device)
    return functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)


def measure_loss(name: str, loss: Loss, maps: Tensor, sounds: Tensor, seconds: float) -> Row:
    """Measure one form of the loss; memory is what it takes beyond its inputs and their gradients."""
    device = maps.device

    def run() -> Tensor:
        value = loss(maps, sounds)
        value.backward()
        maps.grad = sounds.grad = None
        return value

    try:
        before = reset_peak(device)
        value = run().item()
        memory = peak(device, before)
        found = time_of(run, device, seconds, least=2)
    except torch.OutOfMemoryError:
        maps.grad = sounds.grad = None
        free(device)
        return Row(name, None, "s", more={"why": "out of memory"})
    more = {} if memory is None else {"memory_mib": (memory - maps.nbytes - sounds.nbytes) // 2**20}
    return row(name, found, loss=round(value, 5), clips=len(maps), **more)
