"""Promise 6: what is not finite ends a training or is counted, and the clips of every rank are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cacl.errors import UserError
from cacl.loss import LossTerms
from cacl.runs.directory import Run
from cacl.training.batch_norm import RunningStatistics
from cacl.training.meter import Meter
from cacl.training.step import StepRecord
from cacl.world import World
from tests.ranks import run_ranks


def read_steps(world: World, folder: str, policy: str, losses: list[float], norms: list[float]) -> str:
    """Read steps of two clips a rank, of which the last has the step's loss; return the error, if any."""
    meter = Meter(world, Run(folder), [], policy, 10, 0, len(losses))
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=1):
        per_clip = torch.tensor([1.0, loss])
        terms = LossTerms(per_clip, per_clip.mean(), per_clip.sum(), {})
        index = torch.tensor([10, 11]) + 100 * world.rank
        record = StepRecord(terms, torch.tensor(norm), {})
        try:
            meter.read(meter.lap(step, 0.1, record, torch.zeros(1), index))
        except UserError as error:
            return str(error)
    meter.close()
    return ""


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
        assert torch.equal(model.running_mean, before["running_mean"]) == (gradient_norm != 1.0)
        assert torch.equal(model.running_var, before["running_var"]) == (gradient_norm != 1.0)
        assert int(model.num_batches_tracked) == steps
