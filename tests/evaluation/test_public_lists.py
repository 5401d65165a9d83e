"""What the public VGG-SS boxes allow: ceilings and baselines that no model is needed for."""

import json

import numpy as np
import pytest
import torch

from cacl.annotation import Annotation, SoundSource
from cacl.evaluation import metrics
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.systems import centered_box


@pytest.fixture(scope="module")
def vggss(lists_dir):
    return json.loads((lists_dir / "vggss.json").read_text())


@pytest.fixture(scope="module")
def truth(vggss):
    protocol = PROTOCOLS["vggss"]
    notes = (Annotation(clip["file"], sources=(SoundSource(boxes=clip["bbox"]),)) for clip in vggss)
    return torch.stack([protocol.truth(note, protocol.size)["boxes"].to(torch.bool) for note in notes])


def over_all(truth, measure):
    return torch.cat([measure(part.float()) for part in truth.split(256)])


def percent(ciou):
    return round(100 * metrics.success_rate(ciou), 1), round(100 * metrics.auc(ciou), 1)


def test_the_list_is_the_official_one(vggss, truth):
    assert len(vggss) == PROTOCOLS["vggss"].official_clips
    assert sum(len(clip["bbox"]) > 1 for clip in vggss) == 539
    assert sum(any(not 0 <= edge <= 1 for edge in box) for clip in vggss for box in clip["bbox"]) == 12
    assert (~truth.flatten(1).any(1)).sum() == 2


def test_half_the_image_can_reach_at_most_50_5_and_49_5(truth):
    assert percent(over_all(truth, metrics.ceiling_ciou)) == (50.5, 49.5)


def centered(truth, column):
    protocol, nothing = PROTOCOLS["vggss"], torch.zeros(256)

    def box(part):
        return centered_box(nothing[: len(part)], nothing, {"boxes": part}, protocol)[column]

    return over_all(truth, box)


def test_the_centered_box_reaches_31_7_and_36_9(truth):
    assert percent(centered(truth, "ciou_top50")) == (31.7, 36.9)


def test_of_the_boxes_own_size_it_reaches_41_4_and_42_6_and_a_map_can_reach_all_but_two(truth):
    assert percent(centered(truth, "ciou_adaptive")) == (41.4, 42.6)
    assert percent(over_all(truth, metrics.area) > 0)[0] == 100.0


def test_the_whole_image_reaches_21_9(truth):
    whole = over_all(truth, lambda part: metrics.ciou_per_clip(torch.ones_like(part, dtype=torch.bool), part))
    assert percent(whole)[0] == 21.9


def test_a_constant_map_is_the_whole_image(truth):
    part = truth[:64].float()
    constant = metrics.ciou_per_clip(metrics.top_prediction(torch.zeros_like(part)), part)
    np.testing.assert_array_equal(
        constant, metrics.ciou_per_clip(torch.ones_like(part, dtype=torch.bool), part)
    )
