"""SLAVC's public evaluator, number by number, from golden values; and what each quirk of it changes."""

import json

import pytest
import torch

from cacl.evaluation import metrics
from cacl.evaluation.ground_truth import consensus_map, union_map
from cacl.evaluation.protocols import slavc
from cacl.evaluation.protocols.slavc import QUIRKS, SlavcCompat


def golden_cases(golden_dir):
    return json.loads((golden_dir / "evaluator.json").read_text())


def measured(case):
    """Return the protocol and its per-clip columns of a golden case."""
    spec, boxes = case["protocol"], case["boxes"]
    protocol = SlavcCompat(
        "golden",
        version=1,
        consensus=spec["box_format"] == "flickr",
        upsampling="bicubic-corners" if spec["align_corners"] else "bicubic",
        relative=spec["relative_prediction"],
        tau=spec["tau"],
        size=spec["size"],
        rank_fraction=spec["pred_fraction"],
        absolute_threshold=spec["pred_fraction"],
    )
    draw = consensus_map if protocol.consensus else union_map
    truths = {"boxes": torch.stack([draw(clip, protocol.size) for clip in boxes])}
    columns = protocol.measure_maps(torch.tensor(case["maps"]), truths)
    columns["boxes"] = torch.tensor([len(clip) for clip in boxes])
    return protocol, {name: column.numpy() for name, column in columns.items()}


def test_golden_evaluator_per_clip_and_summary(golden_dir):
    """All cases to 1e-6."""
    cases = golden_cases(golden_dir)
    assert cases
    for name, case in cases.items():
        protocol, columns = measured(case)
        for ours, theirs in (("ciou_top50", "ciou"), ("confidence", "confidence"), ("area", "gt_area")):
            assert columns[ours].tolist() == pytest.approx(case[theirs], abs=1e-6), (name, theirs)
        summary = protocol.summarize(columns)
        for metric, value in case["summary"].items():
            assert summary[metric] == pytest.approx(value, abs=1e-6), (name, metric)


def test_golden_evaluator_with_each_quirk_off_gives_the_sane_number(golden_dir):
    for name, case in golden_cases(golden_dir).items():
        _, columns = measured(case)
        names = ("ciou_top50", "confidence", "boxes", "area")
        ciou, confidence, boxes, area = (torch.from_numpy(columns[column]) for column in names)
        sounding, correct = boxes > 0, ciou >= 0.5
        with_quirks = slavc.summarize(ciou, confidence, boxes, area, QUIRKS)
        sane = {
            "thinned-ap": ("AP-all@50", metrics.average_precision(correct, sounding, confidence)),
            "thinned-f1": ("F1-all@50", 100 * metrics.max_f1(correct, sounding, confidence)),
            "strict-half": ("precision_at_50", metrics.success_rate(ciou[sounding])),
        }
        families = {"thinned-ap": ("AP-", "ap_at"), "thinned-f1": ("F1-",), "strict-half": ("precision_at",)}
        for quirk, (metric, expected) in sane.items():
            numbers = slavc.summarize(ciou, confidence, boxes, area, QUIRKS - {quirk})
            assert numbers[metric] == pytest.approx(expected, abs=1e-12), (name, quirk)
            others = [key for key in numbers if not key.startswith(families[quirk])]
            assert [numbers[key] for key in others] == [with_quirks[key] for key in others], (name, quirk)


def test_golden_cases_show_that_the_thinned_curves_are_quirks(golden_dir):
    """The thinned AP is lower on every case, for it drops the first step; the thinned F1 is never higher."""
    for name, case in golden_cases(golden_dir).items():
        protocol, columns = measured(case)
        sounding = torch.from_numpy(columns["boxes"] > 0)
        correct = torch.from_numpy(columns["ciou_top50"] >= 0.5)
        confidence = torch.from_numpy(columns["confidence"])
        summary = protocol.summarize(columns)
        assert summary["AP-all@50"] != metrics.average_precision(correct, sounding, confidence), name
        assert summary["F1-all@50"] <= 100 * metrics.max_f1(correct, sounding, confidence) + 0.05, name


def test_strict_half_is_strict():
    ciou, ones = torch.tensor([0.5, 0.7]), torch.ones(2)
    numbers = slavc.summarize(ciou, torch.tensor([0.1, 0.2]), ones, ones, QUIRKS)
    assert numbers["precision_at_50"] == 0.5
    assert (
        slavc.summarize(ciou, torch.tensor([0.1, 0.2]), ones, ones, QUIRKS - {"strict-half"})[
            "precision_at_50"
        ]
        == 1
    )


def test_an_empty_prediction_on_a_silent_clip_is_nan_by_that_quirk_alone():
    nothing = torch.zeros(1, 4, 4)
    assert slavc.ciou_per_clip(nothing.bool(), nothing).isnan().all()
    assert slavc.ciou_per_clip(nothing.bool(), nothing, QUIRKS - {"nan-when-nothing"}).tolist() == [0]
    assert metrics.ciou_per_clip(nothing.bool(), nothing).tolist() == [0]
