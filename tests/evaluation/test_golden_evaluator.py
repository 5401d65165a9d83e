"""SLAVC's public evaluator, number by number, from golden values; and what each quirk of it changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cacl.evaluation import detection, metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.ground_truth import consensus_map, union_map
from cacl.evaluation.protocols import slavc
from cacl.evaluation.protocols.slavc import QUIRKS, Rules, slavc_protocol
from cacl.evaluation.systems import measure_maps


def golden_cases(golden_dir):
    return json.loads((golden_dir / "evaluator.json").read_text())


def measured(case):
    """Return the protocol and its results of a golden case."""
    spec, boxes = case["protocol"], case["boxes"]
    consensus = spec["box_format"] == "flickr"
    rules = Rules(
        relative=spec["relative_prediction"],
        tau=spec["tau"],
        rank_fraction=spec["pred_fraction"],
        absolute_threshold=spec["pred_fraction"],
    )
    protocol = replace(
        slavc_protocol("golden", version=1, consensus=consensus, rules=rules),
        upsampling="bicubic-corners" if spec["align_corners"] else "bicubic",
        size=spec["size"],
    )
    draw = consensus_map if consensus else union_map
    truths = {"boxes": torch.stack([draw(clip, protocol.size) for clip in boxes])}
    columns = measure_maps(torch.tensor(case["maps"]), truths, protocol)
    return protocol, ClipResults(
        index=np.arange(len(boxes)),
        id=np.arange(len(boxes)).astype(str),
        class_name=np.full(len(boxes), ""),
        boxes=np.array([len(clip) for clip in boxes]),
        columns={name: column.numpy() for name, column in columns.items()},
    )


def evaluator_inputs(results):
    """Return what the evaluator's numbers are made of: CIoU, confidence, boxes, area."""
    return results["ciou_top50"], results["confidence"], results.boxes, results["area"]


def test_golden_evaluator_per_clip_and_summary(golden_dir):
    """All cases to 1e-6, but for a pixel of one clip in a hundred.

    A release of torch may round a pixel of the upsampled map to the other side of the threshold. A union that
    holds half of the image has 25,088 pixels or more.
    """
    cases = golden_cases(golden_dir)
    assert cases
    for name, case in cases.items():
        protocol, results = measured(case)
        for ours, theirs in (("ciou_top50", "ciou"), ("confidence", "confidence"), ("area", "gt_area")):
            error = np.abs(results[ours] - np.asarray(case[theirs]))
            assert (error <= 1e-6).mean() >= 0.99 and error.max() <= 1 / 25_088, (name, theirs)
        summary = protocol.summarize(results)
        for metric, value in case["summary"].items():
            assert summary[metric] == pytest.approx(value, abs=1e-6), (name, metric)


def test_golden_evaluator_with_each_quirk_off_gives_the_sane_number(golden_dir):
    for name, case in golden_cases(golden_dir).items():
        _, results = measured(case)
        ciou, confidence, boxes, area = evaluator_inputs(results)
        sounding, correct = boxes > 0, ciou >= 0.5
        with_quirks = slavc.evaluator_numbers(ciou, confidence, boxes, area, QUIRKS)
        sane = {
            "thinned-ap": ("AP-all@50", detection.average_precision(correct, sounding, confidence)),
            "thinned-f1": ("F1-all@50", 100 * detection.max_f1(correct, sounding, confidence)),
            "strict-half": ("precision_at_50", metrics.success_rate(torch.from_numpy(ciou[sounding]))),
        }
        families = {"thinned-ap": ("AP-", "ap_at"), "thinned-f1": ("F1-",), "strict-half": ("precision_at",)}
        for quirk, (metric, expected) in sane.items():
            numbers = slavc.evaluator_numbers(ciou, confidence, boxes, area, QUIRKS - {quirk})
            assert numbers[metric] == pytest.approx(expected, abs=1e-12), (name, quirk)
            others = [key for key in numbers if not key.startswith(families[quirk])]
            assert [numbers[key] for key in others] == [with_quirks[key] for key in others], (name, quirk)


def test_golden_cases_show_that_the_thinned_curves_are_quirks(golden_dir):
    """The thinned AP is lower on every case, for it drops the first step; the thinned F1 is never higher."""
    for name, case in golden_cases(golden_dir).items():
        protocol, results = measured(case)
        answers = results["ciou_top50"] >= 0.5, results.sounding, results["confidence"]
        summary = protocol.summarize(results)
        assert summary["AP-all@50"] != detection.average_precision(*answers), name
        assert summary["F1-all@50"] <= 100 * detection.max_f1(*answers) + 0.05, name


def test_strict_half_is_strict():
    ciou, confidence, ones = np.array([0.5, 0.7]), np.array([0.1, 0.2]), np.ones(2)
    for quirks, share in ((QUIRKS, 0.5), (QUIRKS - {"strict-half"}, 1)):
        numbers = slavc.evaluator_numbers(ciou, confidence, ones, ones, quirks)
        assert numbers["precision_at_50"] == share


def test_an_empty_prediction_on_a_silent_clip_is_nan_by_that_quirk_alone():
    nothing = torch.zeros(1, 4, 4)
    assert slavc.ciou_with_quirks(nothing.bool(), nothing).isnan().all()
    assert slavc.ciou_with_quirks(nothing.bool(), nothing, QUIRKS - {"nan-when-nothing"}).tolist() == [0]
    assert metrics.ciou_per_clip(nothing.bool(), nothing).tolist() == [0]
