"""Promise 6: a whole training on the device, from shards to checkpoints, reads only what it says that it reads."""

from __future__ import annotations

import pytest
import torch

from cacl.loss import LossOptions, LossTerms
from cacl.loss.objectives import InfoNCE
from cacl.loss.similarities import AttentionSimilarity
from cacl.runs.directory import Run
from cacl.training.meter import Meter
from cacl.training.step import StepRecord
from cacl.training.validation import retrieval
from cacl.types import Batch, Embeddings
from cacl.world import World
from launch.jobs.data import label_joiner
from tests.device.batches import CLIPS, host_batch
from tests.device.crossings import BAD_STEP, METER, VALIDATION
from tests.device.flow import DEVICE, DeviceFlow


def test_a_training_reads_figures_and_checkpoints_and_nothing_else(run):
    """The fixture is a training in which nothing else crosses."""
    lines = list(Run(run).records())
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4]


def test_a_validation_by_attention_stays_on_the_device():
    loss = LossOptions(similarity=AttentionSimilarity(), objective=InfoNCE(), learn_temperature=True)

    def embed(batch: Batch) -> Embeddings:
        images = batch.images.to(DEVICE).float().flatten(1)[:, : 2 * 4 * 3].view(-1, 2, 4, 3)
        return Embeddings(images, images.mean(2), {"logit_scale": torch.ones((), device=DEVICE)})

    with DeviceFlow(VALIDATION) as flow:
        batches = [host_batch(), host_batch()]
        measured = retrieval(embed, batches, label_joiner(None, DEVICE), loss, World(device=DEVICE))
    assert measured is not None and measured["clips"] == 2 * CLIPS
    assert flow.crossed == VALIDATION.keys()


@pytest.mark.parametrize("loss", [1.0, float("nan")])
def test_a_step_that_is_not_finite_is_read_where_it_is_named(loss):
    with DeviceFlow(METER | BAD_STEP) as flow:
        meter = Meter(World(device=DEVICE), 10)
        per_clip = torch.tensor([1.0, loss], device=DEVICE)
        terms = LossTerms(per_clip, per_clip.mean(), per_clip.sum(), {})
        record = StepRecord(terms, torch.ones((), device=DEVICE), {})
        pending = meter.close_step(1, 0.1, record, torch.tensor([10, 11]))
        bad = meter.read(pending).bad_clips
        meter.close()
    assert bad == ([] if loss == 1.0 else [11])
    assert (BAD_STEP.keys() <= flow.crossed) == bool(bad)
