"""Promise 6: what is not finite ends a training or is counted, and the clips of every rank are named."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from cacl.errors import UserError
from cacl.loss import LossTerms
from cacl.runs.directory import Run
from cacl.training.batch_norm import RunningStatistics
from cacl.training.logbook import Logbook
from cacl.training.meter import Meter
from cacl.training.step import StepRecord
from cacl.training.trainer import StepReader
from cacl.world import World
from tests.helpers.ranks import run_ranks


def reader_of(world: World, folder: str, policy: Literal["stop", "skip"], steps: int) -> StepReader:
    logbook = Logbook(Run(folder), (), 0, steps) if world.is_main else None
    return StepReader(Meter(world, 10), logbook, policy, world)


def take_step(reader: StepReader, step: int, loss: float, norm: float) -> None:
    """Take a step of two clips a rank, of which the last has the step's loss."""
    per_clip = torch.tensor([1.0, loss])
    terms = LossTerms(per_clip, per_clip.mean(), per_clip.sum(), {})
    index = torch.tensor([10, 11]) + 100 * reader.world.rank
    reader.add(reader.meter.close_step(step, 0.1, StepRecord(terms, torch.tensor(norm), {}), index))


def read_steps(
    world: World, folder: str, policy: Literal["stop", "skip"], losses: list[float], norms: list[float]
) -> str:
    """Take and read steps; return the error, if any."""
    reader = reader_of(world, folder, policy, len(losses))
    try:
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=1):
            take_step(reader, step, loss, norm)
        reader.finish()
    except UserError as error:
        return str(error)
    reader.meter.close()
    return ""


def test_a_step_is_read_when_the_next_one_has_been_taken_or_at_the_end(tmp_path):
    reader = reader_of(World(), str(tmp_path), "stop", 4)
    read = []
    for step in range(1, 5):
        take_step(reader, step, 1.0, 1.0)
        read.append([line["step"] for line in Run(tmp_path).records()])
    reader.finish()
    reader.finish()
    read.append([line["step"] for line in Run(tmp_path).records()])
    assert read == [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]


def test_the_clips_of_all_ranks_whose_loss_is_not_finite_are_named_on_every_rank(tmp_path):
    said = run_ranks(2, read_steps, str(tmp_path), "stop", [1.0, float("nan")], [1.0, float("nan")])
    assert said[0] == said[1]
    assert said[0].startswith(
        "step 2: loss or gradient is not finite; clips [11, 111]; see training.non_finite"
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_though_the_loss_is(tmp_path, bad):
    said = read_steps(World(), str(tmp_path), "stop", [1.0, 1.0], [1.0, bad])
    assert said.startswith("step 2: loss or gradient is not finite; clips unknown")


def test_skipped_steps_are_counted_in_the_log(tmp_path: Path):
    nan = float("nan")
    assert read_steps(World(), str(tmp_path), "skip", [1.0, nan, 1.0, nan], [1.0, nan, 1.0, nan]) == ""
    assert [line.get("skipped_steps", 0) for line in Run(tmp_path).records()] == [0, 1, 1, 2]


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_a_step_that_is_skipped_leaves_running_statistics_that_are_finite_as_they_were(norm):
    model = torch.nn.BatchNorm1d(3).train()
    for gradient_norm, steps in ((1.0, 1), (norm, 1), (1.0, 2)):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        statistics = RunningStatistics(model)
        model(torch.randn(5, 3))
        statistics.collect()
        statistics.finish(World(), torch.tensor(gradient_norm))
        assert torch.equal(model.get_buffer("running_mean"), before["running_mean"]) == (gradient_norm != 1.0)
        assert torch.equal(model.get_buffer("running_var"), before["running_var"]) == (gradient_norm != 1.0)
        assert int(model.get_buffer("num_batches_tracked")) == steps
