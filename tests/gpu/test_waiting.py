"""Promise 6 on every device: while the device works on a step, the host goes on, and reads the step before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cacl.loss import LossOptions
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.runs.directory import Run
from cacl.training.ema import Ema
from cacl.training.engines import DDP
from cacl.training.optimization import AdamW, Constant
from cacl.training.options import TrainingOptions
from cacl.training.trainer import Plan, Training, train
from cacl.types import Batch, ClipLabels
from cacl.world import World
from tests.gpu.devices import SELDOM_HERE
from tests.training.steps import LOSS, MODEL

CLIPS, STEPS = 32, 8
WARM, SETTLED = 2, 4
"""The first step that finds the device busy, and the first that has as much memory as it takes then."""
BUSY = 1_000_000_000
"""Cycles of a GPU, half a second: the host gives it a step in a fraction of that."""


class Device:
    """What the device is given before each step, and whether it was done when the host came back."""

    def __init__(self, device: torch.device) -> None:
        self.is_cuda = device.type == "cuda"
        self.work: torch.cuda.Event | None = None
        self.done: list[bool] = []

    def give_work(self) -> None:
        """Keep a GPU busy from here on; no call may wait for it."""
        if self.is_cuda:
            torch.cuda._sleep(BUSY)
            self.work = torch.cuda.Event()
            self.work.record()
            torch.cuda.set_sync_debug_mode("error")

    def look(self) -> None:
        """Note whether the work is done."""
        torch.cuda.set_sync_debug_mode("default") if self.is_cuda else None
        self.done.append(self.work is not None and self.work.query())


def batches(device: Device) -> Iterator[Batch]:
    """The same clips in every step; between the warm-up and the last, which ends in a checkpoint, a busy device."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (CLIPS, 3, 64, 64), generator=draw, dtype=torch.uint8)
    waveforms = torch.rand(CLIPS, 48000, generator=draw) * 2 - 1
    for step in range(STEPS):
        if WARM <= step < STEPS - 1:
            device.give_work()
        yield Batch(torch.arange(CLIPS), images, waveforms, torch.ones(CLIPS, dtype=torch.bool))
        device.look()


@SELDOM_HERE
@pytest.mark.parametrize(
    ("micro", "averages"), [(CLIPS, True), (CLIPS // 2, False)], ids=["plain, averaged", "cached"]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_never_waits_for_the_step_that_it_has_just_launched(
    tmp_path: Path, device, micro, averages, precision
):
    """From one fetch to the next: copies to the device, step, stop flag, log.

    A GPU holds 1,024 launches before it lets the host wait: these steps are of fewer.
    """
    world, loss, own = World(device=device), parse(LossOptions, LOSS, "test"), Device(device)
    model = Localizer(replace(MODEL, image_dropout=0.1), loss.scalars(), seed=3).train()
    engine = DDP().build(model, AdamW(), world, precision, 1.0)
    run = Run(tmp_path / "run")
    run.folder.mkdir()

    def join_labels(index: torch.Tensor, valid: torch.Tensor) -> ClipLabels:
        return ClipLabels(index, index % 3, torch.ones(len(index)), valid).to(device)

    training = Training(
        engine=engine,
        average=Ema(engine.module, 0.9) if averages else None,
        batches=batches(own),
        join_labels=join_labels,
        loss=loss,
        options=TrainingOptions(global_batch_size=CLIPS, micro_batch_size=micro),
        schedule=Constant(),
        plan=Plan(STEPS, STEPS, STEPS),
        run=run,
    )
    assert train(training) == "finished"
    assert not any(own.done[SETTLED : STEPS - 1]), f"the host came back after the device was done: {own.done}"
    assert [line["step"] for line in run.records()] == list(range(1, STEPS + 1))
    assert all(line["loss"] > 0 and line["gradient_norm"] > 0 for line in run.records())
