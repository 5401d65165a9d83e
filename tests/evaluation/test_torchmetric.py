"""Promise 17: the evaluator as torchmetrics has metrics, with the same numbers over ranks."""

from __future__ import annotations

import doctest
import pickle

import numpy as np
import pytest
import torch

import cacl
from cacl.errors import UserError
from cacl.evaluation import torchmetric
from cacl.evaluation.torchmetric import LocalizationMetric
from cacl.world import World
from tests.helpers.ranks import run_ranks

RANDOM = np.random.default_rng(1)
MAPS = RANDOM.normal(size=(11, 6, 6)).astype(np.float32)
BOXES = [[(0.1, 0.1, 0.4 + 0.05 * k, 0.9)] if k % 4 else [] for k in range(11)]


def on_rank(world: World, protocol: str, cuts: list[int]) -> dict[str, float]:
    metric = LocalizationMetric(protocol)
    rows = slice(cuts[world.rank], cuts[world.rank + 1])
    metric.update(MAPS[rows], BOXES[rows])
    return metric.compute()


@pytest.mark.parametrize("protocol", ["extended-vggss", "slavc-compat"])
@pytest.mark.parametrize("cuts", [[0, 4, 11], [0, 0, 11]], ids=["both", "one has none"])
def test_every_rank_gets_the_numbers_of_all_clips(protocol, cuts):
    expected = cacl.evaluate(MAPS, BOXES, protocol)
    assert run_ranks(2, on_rank, protocol, cuts) == [expected, expected]


def pictures_on_rank(world: World, protocol: str) -> dict[str, float]:
    metric = LocalizationMetric(protocol)
    rows = slice(0, 5) if world.rank == 0 else slice(5, 11)
    masks = None if protocol == "is3" else MAPS[rows] > 0.5
    metric.update(MAPS[rows], [[(0, 0, 1, 0.5)]] * len(MAPS[rows]), masks=masks, images=PICTURES[rows])
    return metric.compute()


PICTURES = [None, *"aabbccaabb"]


def test_ranks_share_pictures_and_curves():
    """Clips of one picture on two ranks are one picture; columns may be curves over thresholds."""
    boxes: list[list[tuple[float, ...]]] = [[(0, 0, 1, 0.5)]] * len(MAPS)
    expected = cacl.evaluate(MAPS, boxes, "is3", images=PICTURES)
    assert expected["iauc"] < expected["auc"]
    assert run_ranks(2, pictures_on_rank, "is3") == [expected, expected]
    expected = cacl.evaluate(MAPS, boxes, "avsbench", masks=MAPS > 0.5)
    assert run_ranks(2, pictures_on_rank, "avsbench") == [expected, expected]


def test_a_metric_is_reset_pickled_and_moved():
    metric = LocalizationMetric("extended-vggss")
    metric.update(MAPS[:5], BOXES[:5])
    again = pickle.loads(pickle.dumps(metric)).to("cpu")
    again.update(MAPS[5:], BOXES[5:])
    assert again.compute() == cacl.evaluate(MAPS, BOXES, "extended-vggss")
    again.reset()
    with pytest.raises(UserError, match="no clip has boxes"):
        again.compute()


def test_forward_gives_the_batch_s_numbers():
    metric = LocalizationMetric("vggss")
    assert metric(torch.from_numpy(MAPS[1:4]), BOXES[1:4]) == cacl.evaluate(MAPS[1:4], BOXES[1:4], "vggss")


def test_the_example_is_right():
    found = doctest.testmod(torchmetric, extraglobs={"torch": torch})
    assert found.attempted and not found.failed
