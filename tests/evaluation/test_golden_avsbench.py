"""Golden values of AVSBench's masks: mean IoU and F over the set, and as both public loops sum them up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.annotation import Annotation, SoundSource
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.evaluator import Evaluator, evaluate
from cacl.evaluation.measure import measure_annotated
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.protocols.avsbench import LEVELS, Batches, avsbench_protocol, f_thresholds
from cacl.evaluation.systems import measure_maps
from tests.evaluation.golden import cases


@pytest.fixture(scope="module")
def golden(golden_dir):
    return cases(golden_dir / "avsbench.npz")


def measured(case, protocol=PROTOCOLS["avsbench"]):
    logits, masks = torch.from_numpy(case["logits"]), torch.from_numpy(case["masks"])
    columns = measure_maps(logits, {"mask": masks}, replace(protocol, size=masks.shape[-1]))
    index, heard = np.arange(len(logits)), case["masks"].any((1, 2)).astype(np.int64)
    numpy = {name: column.numpy() for name, column in columns.items()}
    return ClipResults(index, index.astype(str), index.astype(str), heard, numpy)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_golden_numbers_over_the_set(golden):
    for case in golden.values():
        np.testing.assert_allclose(f_thresholds(), case["thresholds"], rtol=0, atol=1e-7)
        np.testing.assert_allclose(LEVELS, case["thresholds_miou"], rtol=0, atol=1e-7)
        protocol, found, expected = PROTOCOLS["avsbench"], measured(case), case["clean"]
        close(found["iou"], expected["iou"])
        close(found["iou_sweep"].T, expected["iou_at"])
        close(found["iou_median"], expected["iou_median"])
        numbers, curve = protocol.summarize(found), protocol.sweep(found)
        assert numbers.keys() == expected["summary"].keys() - {"miou_at"}
        for name, value in numbers.items():
            assert value == pytest.approx(expected["summary"][name], abs=1e-6), name
        close(curve["miou"], expected["summary"]["miou_at"])
        close(curve["f"], expected["f_curve"])


def test_golden_numbers_of_both_public_loops(golden):
    for case in golden.values():
        found, frames = measured(case), case["frames_per_video"]
        for name, expected in case["compat"]["official"].items():
            batches = Batches(frames * int(name.removeprefix("videos")), maxima=True)
            numbers = avsbench_protocol("golden", 1, batches).summarize(found)
            close((numbers["miou"], numbers["f"]), (expected["miou"], expected["f"]))
        for name, expected in case["compat"]["acl"].items():
            protocol = avsbench_protocol("golden", 1, Batches(int(name.removeprefix("frames")), maxima=False))
            numbers = protocol.summarize(found)
            close((numbers["f"], numbers["miou_median"]), (expected["f"], expected["miou_median"]))
            close(protocol.sweep(found)["miou"], expected["miou_at"])


def test_golden_numbers_are_had_from_masks_alone(golden):
    """By the evaluator, which takes the boxes around masks."""
    for case in golden.values():
        small = replace(PROTOCOLS["avsbench"], size=case["masks"].shape[-1])
        numbers = evaluate(case["logits"], protocol=small, masks=case["masks"])
        close(numbers["miou"], case["clean"]["summary"]["miou"])
        close(numbers["f"], case["clean"]["summary"]["f"])


def test_batches_are_of_frames_in_order():
    """Those of the public loop, though the evaluator orders clips by their numbers."""
    draw = np.random.default_rng(0)
    logits, masks = draw.normal(size=(23, 8, 8)), draw.random((23, 8, 8)) < draw.random((23, 1, 1))
    small = replace(PROTOCOLS["avsbench-compat"], size=8)
    evaluator = Evaluator(small)
    evaluator.update(logits, masks=masks)
    results = evaluator.results()
    parts = [results.take(np.arange(k, min(k + 5, 23))) for k in range(0, 23, 5)]
    assert evaluator.compute()["miou"] == pytest.approx(np.mean([part["iou"].mean() for part in parts]))


def test_masks_of_what_is_not_heard_or_not_in_view_are_no_truth():
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    heard, quiet = SoundSource(mask=mask), SoundSource(mask=mask[::-1], audible=False)
    notes = [
        Annotation("both", sources=(heard, quiet)),
        Annotation("quiet", sources=(quiet,)),
        Annotation("beyond", sources=(replace(heard, visible=False),)),
    ]
    maps = torch.full((3, 8, 8), -1.0)
    maps[0, :4] = 1
    found = measure_annotated(maps, notes, replace(PROTOCOLS["avsbench"], size=8))
    assert found["iou"].tolist() == [1, 1, 1]
    assert found.boxes.tolist() == [1, 0, 0]
    assert np.isnan(found["f_curve"]).all(1).tolist() == [False, True, True]
    assert PROTOCOLS["avsbench"].summarize(found)["f"] == pytest.approx(1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_frames_changes_no_bit(seed):
    draw = np.random.default_rng(seed)
    logits, masks = draw.normal(size=(17, 8, 8)), draw.random((17, 8, 8)) < draw.random((17, 1, 1))
    small, order = replace(PROTOCOLS["avsbench"], size=8), draw.permutation(17)
    assert evaluate(logits, protocol=small, masks=masks) == evaluate(
        logits[order], protocol=small, masks=masks[order]
    )
