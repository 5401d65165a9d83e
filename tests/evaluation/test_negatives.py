"""Negative sound under one threshold: golden values of vssl_eval, and what the numbers mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.evaluation import metrics, negatives, rules
from cacl.evaluation.compare import Estimate, intervals
from cacl.evaluation.negative_statistics import negative_statistics
from cacl.evaluation.negatives_compat import balances, ranges, reference_numbers
from cacl.evaluation.protocols import get_protocol
from cacl.evaluation.rules import Adaptive, TopShare
from cacl.evaluation.upsampling import upsample
from tests.evaluation.golden import cases, check_numbers, truths


@pytest.fixture(scope="module")
def golden(golden_dir):
    return cases(golden_dir / "negative_audio.npz")


def maps_of(case, negative_upsampling=None):
    """Return the own maps [n, S, S], and by kind those of negatives [K, n, S, S], silence as often."""
    size, way = case["size"], case["upsampling"]

    def brought(maps, how):
        flat = torch.from_numpy(maps).flatten(0, -3)
        return upsample(flat, size, how).view(*maps.shape[:-2], size, size)

    other = negative_upsampling or way
    every = {kind: brought(case[kind], other) for kind in ("noise", "offscreen")}
    times = len(case["noise"])
    every["silence"] = brought(case["silence"], other)[None].expand(times, -1, -1, -1)
    return brought(case["maps"], way), {kind: every[kind] for kind in negatives.KINDS}


def numbers_at(own, others, truth, theta):
    """Return a θ's columns and numbers."""
    ciou = negatives.own_ciou(own, truth, theta).numpy()
    areas = {kind: negatives.image_area(maps, theta).numpy() for kind, maps in others.items()}
    overlaps = {kind: negatives.overlap_with_own(own, maps, theta).numpy() for kind, maps in others.items()}
    return ciou, areas, overlaps, negatives.negative_numbers(ciou, areas, overlaps)


def close(found, expected, where):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=str(where))


@pytest.mark.parametrize("form", ["clean", "compat"])
def test_golden_numbers_at_each_theta(golden, form):
    """`compat` upsamples negatives as its EZ-VSL loop does, in another way than the own maps."""
    for name, case in golden.items():
        expected, truth = case[form], truths(case, len(case["maps"]))
        own, others = maps_of(case, case["negative_upsampling_compat"] if form == "compat" else None)
        for theta, value in case["theta"].items():
            ciou, areas, overlaps, numbers = numbers_at(own, others, truth, value)
            close(ciou, expected["ciou"][theta], (name, theta))
            for kind in negatives.KINDS:
                close(areas[kind], expected["pia"][kind][theta], (name, kind, theta))
                close(overlaps[kind], expected["iou_positive"][kind][theta], (name, kind, theta))
            check_numbers(numbers, expected["summary"][theta])


def test_golden_numbers_of_the_public_evaluator_by_its_own_names(golden):
    """All 168 that it reports, quirks included; its EZ-VSL loop alone has IIoU and IAUC of plain CIoU."""
    for name, case in golden.items():
        expected = dict(
            zip(case["compat"]["reference_names"], case["compat"]["reference_values"], strict=True)
        )
        truth, names = truths(case, len(case["maps"])), case["name"].tolist()
        own, others = maps_of(case, case["negative_upsampling_compat"])
        found = reference_numbers(own, others, truth, case["theta"], names)
        found |= balances(found, negatives.KINDS)
        raw = {kind: torch.from_numpy(case[kind]) for kind in ("noise", "offscreen")}
        raw["silence"] = torch.from_numpy(case["silence"])[None].expand_as(raw["noise"])
        found |= ranges(torch.from_numpy(case["maps"]), raw)
        plain = {key: value for key, value in expected.items() if "ogl" not in key.replace("wogl", "")}
        check_numbers(found, plain)
        objects = upsample(torch.from_numpy(case["object_maps"]), case["size"], case["upsampling"])
        alpha = case["alpha"]

        def guided(maps, alpha=alpha, objects=objects):
            return alpha * maps + (1 - alpha) * objects  # neither is scaled

        mixed = {kind: guided(maps) for kind, maps in others.items()}
        found = reference_numbers(guided(own), mixed, truth, case["theta"], names, "ogl")
        rest = {key: value for key, value in expected.items() if key not in plain}
        assert len(plain) + len(rest) == len(expected) and len(rest) > 50, name
        for key, value in rest.items():  # its mixed maps have pixels within rounding of a threshold
            assert found[key] == pytest.approx(value, abs=1e-5), key


def test_golden_areas_under_thresholds_of_the_own_map(golden):
    for name, case in golden.items():
        truth = truths(case, len(case["maps"]))
        own, others = maps_of(case)
        limits = metrics.values_at(own, rules.ranks((TopShare(), Adaptive()), own, truth))
        for rule, theta in zip(("top_of_positive", "adaptive_of_positive"), limits, strict=True):
            for kind in negatives.KINDS:
                found = negatives.image_area(others[kind], theta)
                close(found, case["clean"]["pia"][kind][rule], (name, kind, rule))
                overlap = negatives.overlap_with_own(own, others[kind], theta)
                close(overlap, case["clean"]["iou_positive"][kind][rule], (name, kind, rule))


def test_golden_theta_is_fitted_to_the_highest_values_before_upsampling(golden):
    for case in golden.values():
        times = len(case["noise"])
        highest = {kind: case[kind].max((-2, -1)) for kind in ("noise", "offscreen")}
        highest["silence"] = np.tile(case["silence"].max((-2, -1)), (times, 1))
        fitted = negatives.fit_theta(highest)
        check_numbers(fitted, case["clean"]["fitted_theta"])
        truth, (own, others) = truths(case, len(case["maps"])), maps_of(case)
        for rule, theta in fitted.items():
            numbers = numbers_at(own, others, truth, theta)[-1]
            check_numbers(numbers, case["clean"]["summary_at_fitted_theta"][rule])


def test_a_model_that_answers_silence_by_nothing_has_the_best_numbers():
    truth = torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[:, 2:5, 1:6] = True
    own, silent = truth.float(), torch.zeros(3, 2, 8, 8)
    *_, numbers = numbers_at(own, {"silence": silent}, truth, 0.5)
    perfect = {"mean_ciou", "auc", "aoc_silence", "f_loc", "f_auc", "f_loc_silence", "f_auc_silence"}
    assert {name for name, value in numbers.items() if value == pytest.approx(1)} >= perfect
    assert (numbers["pia_silence"], numbers["iou_positive_silence"]) == (0, 0)
    deaf = numbers_at(own, {"silence": own.expand(3, -1, -1, -1)}, truth, 0.5)[-1]
    assert deaf["iou_positive_silence"] == 1
    assert deaf["pia_silence"] == pytest.approx(15 / 64)
    mute = numbers_at(0 * own, {"silence": silent}, truth, 0.5)[-1]
    assert (mute["f_loc"], mute["iou_positive_silence"]) == (0, 1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_clips_changes_no_bit(seed):
    draw = np.random.default_rng(seed)
    ciou, areas = draw.random(23), draw.random((4, 23))
    order = draw.permutation(23)
    one = negatives.negative_numbers(ciou, {"noise": areas}, {"noise": areas**2})
    other = negatives.negative_numbers(
        ciou[order], {"noise": areas[:, order]}, {"noise": areas[:, order] ** 2}
    )
    assert one == other
    assert negatives.fit_theta({"noise": areas}) == negatives.fit_theta({"noise": areas[:, order]})


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 3), st.floats(-0.9, 0.9))
@settings(max_examples=40, deadline=None)
def test_clips_are_counted_as_whole_maps_are(seed, clips, repetitions, theta):
    """Piece by piece, without keeping maps of all pixels."""
    random = torch.Generator().manual_seed(seed)
    protocol = replace(get_protocol("vggss"), size=24)
    own = torch.rand(clips, 7, 5, generator=random) * 2 - 1
    maps = {
        kind: torch.rand(repetitions, clips, 7, 5, generator=random) * 2 - 1 for kind in ("silence", "noise")
    }
    truth = torch.rand(clips, 24, 24, generator=random) > 0.7
    found = negatives.measure_negatives(own, maps, truth, theta, protocol)
    scores = protocol.score_maps(own)
    assert found["ciou"]["own"].equal(negatives.own_ciou(scores, truth, theta))
    for kind, some in maps.items():
        theirs = torch.stack([protocol.score_maps(one) for one in some])
        assert found["image_areas"][kind].equal(negatives.image_area(theirs, theta))
        assert found["overlaps"][kind].equal(negatives.overlap_with_own(scores, theirs, theta))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.integers(1, 3))
def test_numbers_as_functions_of_how_often_clips_count_are_those_of_the_clips_repeated(seed, seeds):
    """For intervals and pairs: a resample is a set of clips, of which some are there several times."""
    draw = np.random.default_rng(seed)
    n, kinds = 17, ("silence", "offscreen")
    runs = [
        {"ciou": draw.random(n)}
        | {f"{name}_{kind}": draw.random((n, 3)) for name in ("pia", "iou_positive") for kind in kinds}
        | {f"{name}_10dB": draw.random((n, 3)) for name in ("ciou", "iou_positive")}
        for _ in range(seeds)
    ]
    weights = draw.integers(0, 4, size=(2, n)).astype(float)
    found = {name: one.of(weights) for name, one in negative_statistics(runs).items()}
    for row, times in enumerate(weights.astype(int)):
        for column, run in enumerate(runs):
            some = {name: values.repeat(times, 0) for name, values in run.items()}
            areas = {kind: some[f"pia_{kind}"].T for kind in kinds}
            overlaps = {kind: some[f"iou_positive_{kind}"].T for kind in (*kinds, "10dB")}
            expected = negatives.negative_numbers(some["ciou"], areas, overlaps)
            noisy = some["ciou_10dB"].ravel()
            expected |= {"mean_ciou_10dB": noisy.mean(), "auc_10dB": metrics.auc(torch.from_numpy(noisy))}
            assert {name: values[row, column] for name, values in found.items()} == pytest.approx(expected)


def test_balances_of_a_model_that_finds_nothing_and_marks_everything_are_0():
    worst = {"ciou": np.zeros(4), "pia_noise": np.ones((4, 2)), "iou_positive_noise": np.ones((4, 2))}
    found = intervals(negative_statistics([worst]))
    assert found["f_loc"] == found["f_loc_noise"] == Estimate(0, 0, 0)
