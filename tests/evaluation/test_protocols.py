"""What a protocol measures and sums up, against loops over pixels and counts by hand."""

import json
import math
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.detection import detections
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.summary import breakdown
from cacl.evaluation.systems import centered_box, measure_maps

SIZE = 12


def scores_of(clips, seed=0):
    """Cosines, most of them below 0, so that the best half of the pixels is not what is above 0."""
    return torch.rand(clips, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.8


BOXES = [[[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 1.0]], [[0.5, 0.0, 1.0, 0.75]], []]


def note_of(boxes, mask=None):
    """A clip with one source."""
    return Annotation("a", sources=(SoundSource(boxes=tuple(map(tuple, boxes)), mask=mask),))


def opinions(boxes):
    """How many boxes hold each pixel."""
    held = np.zeros((SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            held[y, x] = sum(x0 <= x / SIZE < x1 and y0 <= y / SIZE < y1 for x0, y0, x1, y1 in boxes)
    return held


def ciou_by_loop(predicted, truth):
    inside = outside = 0.0
    for said, g in zip(predicted.flatten().tolist(), truth.flatten().tolist(), strict=True):
        inside, outside = inside + said * g, outside + (said and g == 0)
    return inside / (truth.sum() + outside) if truth.any() else 0.0


@pytest.mark.parametrize("name", ["vggss", "extended-flickr"])
def test_boxes_are_measured_as_a_loop_over_pixels_does(name):
    """Several boxes are several objects in VGG-SS, and half a point for every annotator in Flickr."""
    protocol, scores = replace(PROTOCOLS[name], size=SIZE), scores_of(3)
    truths = torch.stack([protocol.truth(note_of(boxes), SIZE)["boxes"] for boxes in BOXES])
    found = measure_maps(scores, {"boxes": truths}, protocol)
    for k, boxes in enumerate(BOXES):
        share = opinions(boxes)
        truth = np.minimum(share / 2, 1) if name == "extended-flickr" else np.minimum(share, 1)
        values = scores[k].numpy()
        ordered = np.sort(values.flatten())
        expected = {
            "ciou_top50": ciou_by_loop(values >= ordered[SIZE * SIZE // 2], truth),
            "ciou_adaptive": ciou_by_loop(values >= np.append(ordered, 1)[-1 - (truth > 0).sum()], truth),
            "ciou_absolute": ciou_by_loop(values >= 0, truth),
            "confidence": (ordered[-SIZE * SIZE // 4 :].mean() + 1) / 2,
            "peak_in_box": bool(truth.flatten()[values.argmax()] > 0),
            "area": truth.sum(),
        }
        for column, value in expected.items():
            assert found[column][k].item() == pytest.approx(value, abs=1e-6), (k, column)
        assert not boxes or abs(expected["ciou_top50"] - expected["ciou_absolute"]) > 0.01


def test_stamps_are_ranked_and_cut_at_the_area_of_the_mask_not_of_the_box():
    protocol, scores = replace(PROTOCOLS["stamps"], size=SIZE), scores_of(2, seed=1)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[1:5, 2:4], mask[2, 2:6] = True, True
    box = np.zeros_like(mask)
    box[:6, :6] = True
    note = note_of([[0, 0, 0.5, 0.5]], mask)
    truths = {name: torch.stack([truth] * 2) for name, truth in protocol.truth(note, SIZE).items()}
    found = measure_maps(scores, truths, protocol)
    for k in range(2):
        values = scores[k].numpy()
        ordered = np.sort(values.flatten())
        predicted = values >= ordered[-mask.sum()]
        expected = {
            "ciou": (predicted & mask).sum() / (predicted | mask).sum(),
            "ciou_top50": ciou_by_loop(values >= ordered[SIZE * SIZE // 2], box),
            "pixel_ap": average_precision_score(mask.flatten(), values.flatten()),
            "peak_in_box": box.flatten()[values.argmax()],
            "confidence": (ordered[-SIZE * SIZE // 4 :].mean() + 1) / 2,
            "area": box.sum(),
        }
        for column, value in expected.items():
            assert found[column][k].item() == pytest.approx(value, abs=1e-6), (k, column)


def results_of(**more):
    """Six clips of which the last two are silent; what is ranked best is not what is right."""
    columns = {
        "area": np.array([100.0, 2000.0, 2000.0, 30000.0, 0, 0]),
        "ciou_top50": np.array([0.72, 0.57, 0.32, 0.22, 0, 0]),
        "ceiling_ciou_top50": np.array([0.92, 0.82, 0.72, 0.42, 0, 0]),
        "confidence": np.array([0.9, 0.7, 0.6, 0.3, 0.8, 0.1]),
        "peak_in_box": np.array([True, False, False, True, False, False]),
        **more,
    }
    return ClipResults(
        index=np.arange(6),
        id=np.array(list("abcdef")),
        class_name=np.array(["cat", "cat", "cat", "dog", "cat", "rain"]),
        boxes=np.array([1, 2, 1, 1, 0, 0]),
        columns=columns,
    )


def test_the_numbers_of_boxes_are_those_of_sounding_clips():
    absolute = np.array([0.12, 0.22, 0.97, 0.32, 0, 0])
    adaptive = np.array([0.82, 0.82, 0.52, 0.12, 0, 0])
    clips = results_of(ciou_absolute=absolute, ciou_adaptive=adaptive)
    protocol = PROTOCOLS["extended-vggss"]
    numbers = protocol.summarize(clips)
    assert (numbers["ciou"], numbers["ciou_absolute"], numbers["peak_in_box"]) == (0.5, 0.25, 0.5)
    assert numbers["ciou_adaptive"] == 0.75
    assert numbers["auc_adaptive"] == pytest.approx((0.825 + 0.825 + 0.525 + 0.125) / 4)
    # A clip passes the thresholds 0, 0.05 ... up to its CIoU; the last trapezoid adds half a step.
    assert numbers["auc"] == pytest.approx((0.725 + 0.575 + 0.325 + 0.225) / 4)
    assert numbers["auc_absolute"] == pytest.approx((0.125 + 0.225 + 0.975 + 0.325) / 4)
    # Of the six clips two are right; F1 is best at confidence 0.7: 2 of 3 are right, and 2 sounding ones are left.
    assert (numbers["ciou_all"], numbers["silent_false_positives"]) == (pytest.approx(2 / 6), 0.5)
    assert numbers["max_f1"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert protocol.ceiling(clips) == {
        "ciou": 0.75,
        "auc": pytest.approx((0.925 + 0.825 + 0.725 + 0.425) / 4),
        "ciou_adaptive": 1,
        "auc_adaptive": 1,
    }
    per_clip = protocol.per_clip(clips)
    assert per_clip["ciou"].tolist() == [True, True, False, False]
    assert per_clip["ciou_adaptive"].tolist() == [True, True, True, False]


def test_a_box_without_a_pixel_bounds_the_adaptive_rule():
    """Two clips of VGG-SS: something sounds, and no map can point at it."""
    clips = results_of(area=np.array([100.0, 0, 2000, 30000, 0, 0]))
    assert PROTOCOLS["vggss"].ceiling(clips)["ciou_adaptive"] == 0.75


@pytest.mark.parametrize("name", ["vggss", "flickr"])
def test_the_centered_box_has_the_size_that_each_rule_asks_for(name):
    """A square in the middle of as many pixels as the truth; half of the picture; all of it above 0."""
    protocol = replace(PROTOCOLS[name], size=SIZE)
    middle, corner = [0.25, 0.25, 0.75, 0.75], [0.0, 0.0, 0.25, 0.25]
    notes = [note_of(boxes) for boxes in ([middle] * 2, [corner] * 2, [[0, 0, 0.5, 1]] * 2, [])]
    truths = torch.stack([protocol.truth(note, SIZE)["boxes"] for note in notes])
    nothing = torch.zeros(len(notes))
    found = centered_box(nothing, nothing, {"boxes": truths}, protocol)
    half = int(SIZE * math.sqrt(0.5)) ** 2  # of even side, since the middle lies between pixels
    assert found["ciou_top50"].tolist() == pytest.approx(
        [36 / half, 0.5 / (9 + half - 0.5), 32 / (72 + half - 32), 0], abs=0.01
    )
    assert found["ciou_adaptive"][0] == 1
    assert found["ciou_adaptive"][1] == 0
    assert found["ciou_adaptive"][2] == pytest.approx(1 / 3, abs=0.02)
    assert found["ciou_adaptive"][3] == 0
    assert found["ciou_absolute"].tolist() == pytest.approx([36 / 144, 9 / 144, 0.5, 0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.integers(-8, 8))
def test_scale_and_shift_of_a_map_change_no_number_of_a_rank(seed, scale, shift):
    """Multiples of 1/16 by powers of two and whole shifts: nothing is rounded."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(-64, 64, (4, SIZE, SIZE), generator=draw) / 16
    truths = {"boxes": torch.rand(4, SIZE, SIZE, generator=draw) < 0.3}
    protocol = replace(PROTOCOLS["vggss"], size=SIZE)
    one = protocol.measure(scores, truths)
    other = protocol.measure(scores * 2.0 ** round(math.log2(scale)) + shift, truths)
    for column in ("ciou_top50", "ciou_adaptive", "peak_in_box"):
        assert torch.equal(one[column], other[column]), column


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), consensus=st.booleans())
def test_a_map_that_is_highest_at_the_truth_reaches_1_under_the_adaptive_rule(seed, consensus):
    """Whatever its size, which no rule of half the picture allows."""
    draw = torch.Generator().manual_seed(seed)
    held = torch.randint(0, 3, (4, SIZE, SIZE), generator=draw) / 2
    truth = held if consensus else held > 0.5
    scores = held + torch.rand(held.shape, generator=draw) / 4
    found = replace(PROTOCOLS["flickr"], size=SIZE).measure(scores, {"boxes": truth})
    assert found["ciou_adaptive"].tolist() == [1] * 4


def test_stamps_are_right_by_the_mask_whatever_their_ranking():
    clips = results_of(
        ciou=np.array([0.7, 0.2, 0.6, 0.1, 0, 0]), pixel_ap=np.array([0.1, 0.9, 0.8, 0.7, np.nan, np.nan])
    )
    protocol = PROTOCOLS["extended-stamps"]
    numbers = protocol.summarize(clips)
    assert (numbers["ciou"], numbers["ciou_top50"], numbers["miou"]) == (0.5, 0.5, pytest.approx(0.4))
    assert (numbers["pixel_ap"], numbers["ciou_all"]) == (pytest.approx(0.625), pytest.approx(2 / 6))
    assert detections(clips, protocol.judged_by).correct.tolist() == [True, False, True, False, False, False]
    found = breakdown(clips, protocol)
    assert found["by_size"] == {
        "small": {"n": 1, "right": 1},
        "medium": {"n": 2, "right": 0.5},
        "huge": {"n": 1, "right": 0},
    }
    assert found["by_class"] == {"cat": {"n": 3, "right": pytest.approx(2 / 3)}, "dog": {"n": 1, "right": 0}}
    # F1 is best when all down to 0.6 are detected: 2 of 4 are right, and one sounding clip is missed.
    assert found["silent"] == {
        "cat": {"n": 1, "false_positives": 1},
        "rain": {"n": 1, "false_positives": 0},
    }


def evaluation(protocol, n, missing=(), options=None):
    """Write nothing; return the record and the columns of a model that is right, and one that is wrong."""
    facts = {
        "index": np.arange(n),
        "id": np.array([f"clip-{k}" for k in range(n)]),
        "class_name": np.array(["dog"] * n),
        "boxes": np.ones(n, dtype=np.int64),
    }
    common = {
        "area": np.full(n, 900.0),
        "confidence": np.linspace(0, 1, n),
        "ceiling_ciou_top50": np.ones(n),
    }
    systems = {}
    for name, share in (("model", 0.75), ("untrained", 0.25)):
        ciou = np.where(np.arange(n) < share * n, 0.8, 0.1)
        names = ("ciou_top50", "ciou_adaptive", "ciou_absolute")
        columns = {**common, **dict.fromkeys(names, ciou), "peak_in_box": ciou > 0.5}
        systems[name] = ClipResults(**facts, columns=columns)
    subject = results.Subject(PROTOCOLS[protocol], "data", "step-1", list(missing), options or {})
    return results.summarize(subject, systems), systems


def test_a_record_says_the_share_of_the_official_set_and_intervals_of_the_trained_model():
    record, _ = evaluation("vggss", 200, missing=["x", "y"])
    assert record["share_of_set"] == pytest.approx(200 / 5158)
    assert evaluation("slavc-compat", 200, missing=["x", "y"])[0]["share_of_set"] == pytest.approx(200 / 202)
    assert (record["model"]["ciou"], record["untrained"]["ciou"]) == (0.75, 0.25)
    low, high = record["intervals"]["ciou"]
    # normal approximation: 1.96 standard errors of a share of 0.75 in 200 clips; an end is known to a few percent
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 200), rel=0.1)
    assert low < 0.75 < high


def test_an_evaluation_by_another_protocol_keeps_the_earlier_ones(tmp_path):
    for name in ("vggss", "slavc-compat"):
        record, systems = evaluation(name, 8)
        results.write(tmp_path, record, systems)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["protocol"] == "slavc-compat"
    assert {name: one["protocol"] for name, one in summary["evaluations"].items()} == {
        "vggss": "vggss",
        "slavc-compat": "slavc-compat",
    }
    assert results.read_record(tmp_path, "vggss")["model"]["ciou"] == 0.75
    read = results.read_clips(tmp_path, "vggss")
    assert read["untrained"]["ciou_top50"].tolist() == [0.8] * 2 + [0.1] * 6


def test_evaluations_under_other_options_lie_side_by_side_and_none_changes_another(tmp_path):
    """Promise 9: the folder's name says what differs from the protocol's own."""
    bilinear = PROTOCOLS["slavc-compat"].alter("bilinear", ["thinned-ap", "strict-half"])
    written = {}
    for options in ({}, {"weights": "ema"}, {"checkpoint": "best", "guidance": "min-max", "alpha": "0.4"}):
        record, systems = evaluation("vggss", 8 + len(options), options=options)
        results.write(tmp_path, record, systems)
        written[record["name"]] = record
    assert list(written) == ["vggss", "vggss,weights=ema", "vggss,checkpoint=best,guidance=min-max,alpha=0.4"]
    assert results.evaluation_name(bilinear, {"weights": "model", "checkpoint": "latest"}) == (
        "slavc-compat,upsampling=bilinear,without=strict-half+thinned-ap"
    )
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["evaluations"] == written
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == set(written)
    for name, record in written.items():
        assert results.read_record(tmp_path, name) == record
        assert len(results.read_clips(tmp_path, name)["model"]) == record["n"]
    assert results.read_record(tmp_path, "vggss")["name"] == "vggss", "the plain one, not the newest"
    assert results.read_record(tmp_path)["name"] == list(written)[-1]


def write_several(folder, writer):
    for k in range(8):
        results.write(folder, *evaluation("vggss", 2, options={"alpha": f"{writer}.{k}"}))


def test_evaluations_that_end_at_once_are_all_in_the_summary(tmp_path):
    """Each reads the summary and writes it with its own numbers beside."""
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=write_several, args=(tmp_path, writer)) for writer in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["evaluations"].keys() == {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert len(summary["evaluations"]) == 32


def test_a_protocol_names_its_only_evaluation_and_several_are_listed(tmp_path):
    names = ("vggss,weights=ema", "vggss,checkpoint=best")
    for k, options in enumerate(({"weights": "ema"}, {"checkpoint": "best"})):
        record, systems = evaluation("vggss", 8, options=options)
        results.write(tmp_path, record, systems)
        if k == 0:
            assert results.find_evaluation(tmp_path, "vggss") == names[0]
    with pytest.raises(UserError, match=f"there is none; name one of {names[1]}; {names[0]}"):
        results.read_clips(tmp_path, "vggss")
    for wanted in ("flickr", "vggss,weights=best"):
        with pytest.raises(UserError, match=rf"run first: cacl evaluate .*there are {names[1]}; {names[0]}"):
            results.read_record(tmp_path, wanted)
