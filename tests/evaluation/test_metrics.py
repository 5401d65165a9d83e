"""Metrics against slow, obvious oracles: loops over clips and pixels, scikit-learn, torch's interpolation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cacl.evaluation import detection, metrics, rules
from cacl.evaluation import kernels as rows
from cacl.evaluation.detection import Detections
from cacl.evaluation.ground_truth import consensus_map, mask_map, pixel_boxes, union_map
from cacl.evaluation.pixels import CompiledPasses, TorchPasses, passes
from cacl.evaluation.rules import TopShare
from cacl.evaluation.upsampling import _INTERPOLATE, Upsampling, upsample, upsample_by_interpolation

SIZE = 24


def random_case(seed, clips=12, ties=False):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(clips, SIZE, SIZE, generator=generator)
    if ties:
        scores = (scores * 5).round() / 5
    corners = torch.randint(0, SIZE, (clips, 2, 4), generator=generator).tolist()
    boxes = [[(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in clip] for clip in corners]
    boxes[3] = []
    return scores, torch.stack([consensus_map(clip, SIZE) for clip in boxes])


def ciou_by_loop(scores, truth):
    threshold = sorted(scores.flatten().tolist())[int(scores.numel() * 0.5)]
    inside = outside = 0.0
    for score, g in zip(scores.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if score >= threshold:
            inside, outside = inside + g, outside + (g == 0)
    return inside / (float(truth.double().sum()) + outside)


@pytest.mark.parametrize("ties", [False, True])
def test_top_half_ciou_equals_the_loop_over_pixels(ties):
    scores, truth = random_case(0, ties=ties)
    fast = metrics.ciou_per_clip(metrics.top_prediction(scores), truth)
    slow = [ciou_by_loop(s, t) for s, t in zip(scores, truth, strict=True)]
    assert fast.tolist() == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_pixel_ap_equals_scikit_learn(ties):
    scores, truth = random_case(1, ties=ties)
    fast = metrics.pixel_ap_per_clip(scores, truth)
    for value, s, t in zip(fast.tolist(), scores, truth, strict=True):
        if t.max() == 0:
            assert math.isnan(value)
        else:
            expected = average_precision_score((t.flatten() >= 0.5).numpy(), s.flatten().numpy())
            assert value == pytest.approx(expected, abs=1e-9)


def test_area_prediction_predicts_exactly_the_area():
    scores, _ = random_case(2, clips=5)
    area = torch.tensor([0.0, 1.0, 7.0, 100.0, SIZE * SIZE])
    predicted = metrics.area_prediction(scores, area)
    assert predicted.flatten(1).sum(1).tolist() == area.tolist()
    assert predicted[1].flatten().nonzero().item() == scores[1].argmax().item()


def test_confidence_is_the_mean_of_the_highest_quarter():
    scores, _ = random_case(3)
    ordered = scores.flatten(1).sort(dim=1).values
    expected = ordered[:, -math.ceil(ordered.shape[1] / 4) :].mean(1)
    torch.testing.assert_close(metrics.confidence_per_clip(scores), expected)


KINDS = ("smooth", "cells", "noise", "ties", "constant", "zeros", "spike", "wide", "one")


def values_of(kind, random):
    """Pixels whose thresholds are easy or hard to find."""
    values = random.standard_normal(5000).astype(np.float32)
    upsamplings: dict[str, Upsampling] = {"smooth": "bicubic", "cells": "nearest"}
    if kind in upsamplings:
        cells = torch.from_numpy(random.standard_normal((1, 7, 7)))
        values = upsample(cells, 71, upsamplings[kind]).flatten().float().numpy()
    special = {
        "ties": lambda: np.round(values * 3) / 3,
        "constant": lambda: np.full_like(values, 0.25),
        "zeros": lambda: np.where(values < 1, 0, values).astype(np.float32),
        "spike": lambda: np.where(np.arange(5000) % 97 == 48, 100, values).astype(np.float32),
        "wide": lambda: values * np.float32(10) ** random.integers(-45, 38, 5000).astype(np.float32),
        "one": lambda: values[:1],
    }
    return special[kind]() if kind in special else values


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS))
def test_thresholds_and_means_of_rows_equal_a_sort(seed, kind):
    """Counting against the sort, ties and extremes included; every map has ranks of its own."""
    maps = np.stack([values_of(kind, np.random.default_rng(seed + row)) for row in range(2)])
    pixels = maps.shape[1]
    for rank in {0, 1 % pixels, pixels // 2, 3 * pixels // 4, pixels - 1}:
        ranks = np.array([[rank, pixels - 1 - rank], [rank // 2, rank], [rank, rank]])
        thresholds, means = rows.thresholds_and_means(maps, ranks, pixels - rank)
        assert (thresholds == rows.thresholds(maps, ranks)).all()
        for row, (values, mean) in enumerate(zip(maps, means, strict=True)):
            ordered = np.sort(values)
            for one, threshold in zip(ranks[:, row], thresholds[:, row], strict=True):
                assert ((values >= threshold) == (values >= ordered[one])).all()
                assert (values < threshold).sum() == one or threshold == ordered[one]
            size = np.abs(ordered[rank:]).mean(dtype=np.float64)  # sums in another order round so far apart
            assert mean == pytest.approx(ordered[rank:].mean(dtype=np.float64), abs=1e-12 * size)
        none, same_means = rows.thresholds_and_means(maps, ranks[:0], pixels - rank)
        assert none.shape == (0, 2) and (same_means == means).all()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [SIZE, SIZE - 1])
def test_threshold_and_confidence_together_equal_each_alone(ties, size):
    scores, truth = (maps[:, :size, :size] for maps in random_case(3, ties=ties))
    ranks = rules.ranks((TopShare(),), scores, truth)
    (threshold,), confidence = metrics.thresholds_and_confidence(scores, ranks)
    ordered = scores.flatten(1).sort(dim=1).values
    predicted = scores >= ordered[:, int(size * size * 0.5), None, None]
    assert torch.equal(scores >= threshold[:, None, None], predicted)
    assert torch.equal(metrics.top_prediction(scores), predicted)
    # Both are means in float64 of the same values in another order, then rounded to float32.
    torch.testing.assert_close(confidence, metrics.confidence_per_clip(scores), rtol=2e-7, atol=0)
    assert metrics.thresholds_and_confidence(scores[:0], ranks[:, :0])[1].shape == (0,)


@pytest.mark.parametrize("ties", [False, True])
def test_both_forms_of_the_passes_over_pixels_return_the_same(ties):
    """PyTorch's on any device, here a CPU, and the compiled ones."""
    scores, truth = random_case(6, ties=ties)
    maps, boxes = scores.flatten(1), truth.flatten(1) > 0
    (plain, compiled), pixels = (TorchPasses(), CompiledPasses()), maps.shape[1]
    assert isinstance(passes(maps), CompiledPasses)
    assert isinstance(passes(torch.empty(1, 1, device="meta")), TorchPasses)
    for rank in (0, pixels // 2, 3 * pixels // 4, pixels - 1):
        ranks = torch.stack([torch.full((len(maps),), rank), torch.arange(len(maps)) * pixels // len(maps)])
        (one, mean), (other, same_mean) = (
            each.thresholds_and_mean(maps, ranks, pixels - rank) for each in (plain, compiled)
        )
        for limits in (other, plain.thresholds(maps, ranks), compiled.thresholds(maps, ranks)):
            assert torch.equal(maps >= one[:, :, None], maps >= limits[:, :, None])
        torch.testing.assert_close(mean, same_mean, rtol=1e-6, atol=0)  # sums in another order
        limits = torch.cat([one, torch.full_like(one[:1], 0.3)])
        for found, expected in zip(
            compiled.overlaps(maps, limits, boxes), plain.overlaps(maps, limits, boxes), strict=True
        ):
            assert torch.equal(found, expected)
    assert torch.equal(plain.ascending(maps), compiled.ascending(maps))
    assert torch.equal(plain.count(boxes), compiled.count(boxes))
    assert torch.equal(
        maps.gather(1, plain.peak(maps)[:, None]), maps.gather(1, compiled.peak(maps)[:, None])
    )


@pytest.mark.parametrize("limit", [0.0, 0.4])
def test_ciou_at_a_threshold_is_the_ciou_of_its_prediction(limit):
    scores, truth = random_case(4)
    limits = torch.stack([torch.linspace(limit, 1, len(scores)), torch.zeros(len(scores))])
    for boxes in (truth, truth > 0):
        expected = [metrics.ciou_per_clip(scores >= one[:, None, None], boxes) for one in limits]
        assert torch.equal(metrics.ciou_at(scores, limits, boxes), torch.stack(expected))


def test_pixels_are_counted_where_there_are_more_than_a_byte_can_count():
    truth = torch.ones(2, 150, 150, dtype=torch.bool)
    truth[1, :, :149] = False
    assert metrics.area(truth).tolist() == [150 * 150, 150]
    scores = torch.rand(2, 150, 150, generator=torch.Generator().manual_seed(0))
    assert metrics.top_prediction(scores, 0.9).flatten(1).sum(1).tolist() == [2250, 2250]


def test_peak_is_the_highest_pixel():
    scores = torch.zeros(2, SIZE, SIZE)
    scores[0, 3, 5] = scores[1, 20, 1] = 1
    assert metrics.peak(scores).tolist() == [[5, 3], [1, 20]]
    truth = torch.stack([union_map([(5, 3, 6, 4)], SIZE), union_map([(1, 0, 2, 20)], SIZE)])
    assert metrics.peak_inside(scores, truth).tolist() == [True, False]  # the lower edge lies outside


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_no_prediction_of_half_the_image_beats_the_ceiling(seed, ties):
    scores, truth = random_case(seed, ties=ties)
    reached = metrics.ciou_per_clip(metrics.top_prediction(scores), truth)
    assert (reached <= metrics.ceiling_ciou(truth) + 1e-12).all()
    untied = truth + torch.linspace(0, 0.01, SIZE * SIZE).view(SIZE, SIZE)
    best = metrics.ciou_per_clip(metrics.top_prediction(untied), truth)
    torch.testing.assert_close(best, metrics.ceiling_ciou(truth))


def test_auc_is_the_trapezoid_over_twenty_one_thresholds():
    ciou = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    thresholds = [0.05 * step for step in range(21)]
    rates = [np.mean(ciou.numpy() >= threshold) for threshold in thresholds]
    assert metrics.auc(ciou) == pytest.approx(np.trapezoid(rates, thresholds), abs=1e-12)
    assert metrics.auc(torch.ones(3)) == pytest.approx(1)


def counts_by_loop(correct, sounding, confidence, threshold):
    hit = wrong = missed = 0
    for right, spectrograms, sure in zip(
        correct.tolist(), sounding.tolist(), confidence.tolist(), strict=True
    ):
        if sure >= threshold:
            hit, wrong = hit + (spectrograms and right), wrong + (not (spectrograms and right))
        else:
            missed += spectrograms
    precision = hit / (hit + wrong) if hit + wrong else 1.0
    return precision, hit / (hit + missed) if hit + missed else 1.0


@pytest.mark.parametrize("seed", range(4))
def test_precision_recall_ap_and_max_f1_equal_the_loop_over_thresholds(seed):
    generator = torch.Generator().manual_seed(seed)
    correct, sounding = (torch.rand(60, generator=generator).numpy() < 0.6 for _ in range(2))
    confidence = ((torch.rand(60, generator=generator) * 20).round() / 20).numpy()
    thresholds = np.unique(confidence)[::-1]
    slow = [counts_by_loop(correct, sounding, confidence, t) for t in thresholds.tolist()]
    precision, recall = detection.precision_recall(correct, sounding, confidence, thresholds)
    assert precision.tolist() == pytest.approx([p for p, _ in slow])
    assert recall.tolist() == pytest.approx([r for _, r in slow])
    ap, before = 0.0, 0.0
    for k, (_, r) in enumerate(slow):
        ap, before = ap + max(p for p, _ in slow[k:]) * (r - before), r
    assert detection.average_precision(correct, sounding, confidence) == pytest.approx(ap)
    best = max(2 * p * r / (p + r) if p + r else 0 for p, r in slow)
    assert detection.max_f1(correct, sounding, confidence) == pytest.approx(best)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.integers(2, 40), silent=st.booleans())
def test_resampled_detection_equals_the_plain_metrics_on_clips_written_out_as_often(seed, clips, silent):
    """The fast path of the intervals: weights against repeated rows, ties of confidence included."""
    random = np.random.default_rng(seed)
    sounding = random.random(clips) < (0.5 if silent else 2)
    correct = (random.random(clips) < 0.6) & sounding
    confidence = np.round(random.random(clips) * 10) / 10
    weights = np.bincount(random.integers(clips, size=clips), minlength=clips)
    drawn = np.repeat(np.arange(clips), weights)
    fast = Detections(correct, sounding, confidence).resampled(weights[None])
    written_out = [one[drawn] for one in (correct, sounding, confidence)]
    assert fast["ap"][0] == pytest.approx(detection.average_precision(*written_out), abs=1e-12)
    assert fast["max_f1"][0] == pytest.approx(detection.max_f1(*written_out), abs=1e-12)
    if not sounding.all():
        assert fast["ciou_all"][0] == pytest.approx(correct[drawn].mean())
        if not sounding[drawn].all():
            taken = confidence[drawn] >= detection.best_threshold(*written_out)
            expected = taken[~sounding[drawn]].mean()
            assert fast["silent_false_positives"][0] == pytest.approx(expected)


@pytest.mark.parametrize("name", _INTERPOLATE)
@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (14, 10)])
def test_separable_upsampling_equals_interpolation(name, shape):
    maps = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = upsample_by_interpolation(maps, 224, name)
    torch.testing.assert_close(upsample(maps, 224, name), expected, atol=1e-12, rtol=0)
    # In float32, torch computes the source position itself with a rounding error of 14 cells · 6e-8.
    torch.testing.assert_close(upsample(maps.float(), 224, name), expected.float(), atol=3e-6, rtol=0)


def test_boxes_are_clipped_and_truncated_and_reversed_ones_are_empty():
    boxes = [[-0.1, 0.25, 0.999, 1.2], [0.4, 0.9, 0.7, -2.9e16]]
    assert pixel_boxes(boxes, 224, "clip") == [(0, 56, 223, 224), (89, 201, 156, 201)]
    assert union_map(pixel_boxes(boxes[1:], 224, "clip"), 224).sum() == 0


def test_a_box_that_is_not_finite_is_refused_by_name():
    with pytest.raises(Exception, match=r"clip abc: boxes: .*four finite numbers"):
        pixel_boxes([[0, 0, float("nan"), 1]], 224, "abc")


def test_two_annotators_make_one_point():
    truth = consensus_map([(0, 0, 4, 4), (2, 0, 6, 4), (2, 0, 4, 4)], 8)
    assert truth[0].tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5, 0, 0]


def test_masks_of_any_size_become_the_protocol_size():
    mask = np.zeros((448, 448), np.uint8)
    mask[:224, :112] = 255
    resized = mask_map(mask, 224)
    assert resized.sum() == 112 * 56
    assert torch.equal(resized, mask_map(torch.from_numpy(mask > 0), 224))


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (torch.full((2, 4, 4), float("nan")), torch.zeros(2, 4, 4), "NaN or infinity in rows"),
        (torch.zeros(2, 4, 4), torch.zeros(3, 5, 5), "same clips"),
        (torch.zeros(4, 4), torch.zeros(4, 4), "same clips"),
        (torch.zeros(1, 4, 4), torch.full((1, 4, 4), 255.0), "truth in 0..1"),
    ],
)
def test_bad_maps_are_refused_at_the_door(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        metrics.validate(scores, truth)
