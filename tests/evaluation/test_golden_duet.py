"""Golden values of several sources at once: each map's own frame, one frame, and frames joined."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from cacl.evaluation import metrics, sources
from cacl.evaluation.ground_truth import pixel_boxes, union_map
from cacl.evaluation.protocols import boxes
from cacl.evaluation.sources_compat import (
    added_boxes,
    avgn_measure,
    avgn_numbers,
    noprior_measure,
    noprior_numbers,
)
from cacl.evaluation.upsampling import upsample
from tests.evaluation.golden import cases


@pytest.fixture(scope="module")
def golden(golden_dir):
    return cases(golden_dir / "duet.npz")


def close(found, expected, where=""):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=str(where))


def truths_of(case):
    """Return [n, 2, S, S] of either form of boxes."""
    size = case["size"]
    if "boxes_xywh" in case:
        corners = case["boxes_xywh"].copy()
        corners[..., 2:] += corners[..., :2]
        per_source = [[[box] for box in clip] for clip in corners.tolist()]
    else:
        belongs = [(case["box_clip"] == clip, case["box_source"]) for clip in range(len(case["maps"]))]
        per_source = [
            [case["boxes_normalized"][mine & (source == k)].tolist() for k in (0, 1)]
            for mine, source in belongs
        ]
    drawn = [[union_map(pixel_boxes(box, size, ""), size) for box in clip] for clip in per_source]
    return torch.stack([torch.stack(clip) for clip in drawn])


@pytest.mark.parametrize("name", ["one_frame", "two_frames"])
def test_golden_numbers_of_a_map_for_each_source(golden, name):
    case = golden[name]
    truths, maps = truths_of(case), torch.from_numpy(case["maps"])
    columns: dict[str, list[np.ndarray]] = {}
    for k in (0, 1):
        scores = upsample(maps[:, k], case["size"], case["upsampling"])
        found = boxes.measure(scores, {"boxes": truths[:, k]})
        every = {
            "ciou": found["ciou_top50"],
            "ciou_adaptive": found["ciou_adaptive"],
            "pixel_ap": metrics.pixel_ap_per_clip(scores, truths[:, k]),
        }
        for column, values in every.items():
            close(values, case["clean"][f"source{k}"][column], (k, column))
            columns.setdefault(column, []).append(values.numpy())
    joined = {column: np.concatenate(parts) for column, parts in columns.items()}
    numbers = {
        **sources.source_shares("ciou", joined["ciou"]),
        **sources.source_shares("ciou_adaptive", joined["ciou_adaptive"]),
        "pixel_ap": metrics.mean(joined["pixel_ap"]),
    }
    assert numbers == pytest.approx(case["clean"]["summary"], abs=1e-6)


def joined_clips(case):
    """Yield each clip's maps [M, K · S, S] and truths [K, K · S, S]."""
    size, parts = case["size"], case["parts"]
    way = {"mode": case["upsampling"], "align_corners": False}
    for clip in range(case["clips"]):
        mine = torch.from_numpy(case["maps"][case["map_clip"] == clip])
        maps = interpolate(mine[:, None], (parts * size, size), **way)[:, 0] if len(mine) else None
        truths = torch.zeros(parts, parts * size, size, dtype=torch.bool)
        for part in range(parts):
            rows = (case["box_clip"] == clip) & (case["box_part"] == part)
            drawn = union_map(pixel_boxes(case["boxes_normalized"][rows].tolist(), size, ""), size)
            truths[part, part * size : (part + 1) * size] = drawn
        yield maps if maps is not None else torch.zeros(0, parts * size, size), truths


def test_golden_numbers_of_joined_frames(golden):
    case = golden["joined"]
    parts, theta = case["parts"], case["clean"]["theta"]
    found: dict[str, list[dict[str, torch.Tensor]]] = {}
    joint: dict[str, list[float]] = {}
    counts = []
    for maps, truths in joined_clips(case):
        blind = sources.class_blind(maps)
        own = torch.stack([truths[k].unflatten(0, (parts, -1))[k] for k in range(parts)])
        forms = {
            "frame_wise": (sources.whole(maps, parts), truths, maps),
            "class_blind": (sources.whole(blind, parts), truths, blind),
            "source_wise": (sources.cut(maps, parts), own, maps),
        }
        for form, (seen, wanted, every) in forms.items():
            found.setdefault(form, []).append(sources.measure_sources(seen, wanted, theta))
            joint.setdefault(form, []).append(sources.joint_ap(every, truths))
        counts.append(len(maps))
    for form, clips in found.items():
        expected = case["clean"][form]
        for column in ("ciou_adaptive", "ciou_theta", "pixel_ap"):
            close(torch.stack([clip[column] for clip in clips]), expected[column], (form, column))
        if "piap" in expected:
            close(joint[form], expected["piap"], form)
        numbers = sources.source_numbers(clips, joint[form], counts)
        for name, value in expected["summary"].items():
            ours = "auc_adaptive" if name == "auc" else name.replace("ciou_at", "ciou_adaptive_at")
            assert numbers[ours] == pytest.approx(value, abs=1e-6), (form, name)


def added_truths(case):
    """Return float [n, 2, S, S] as AVGN draws them: widths as corners, overlaps twice."""
    size, (clips, count) = case["size"], case["maps"].shape[:2]
    if "boxes_xywh" in case:
        per_source = [[[box] for box in clip] for clip in case["boxes_xywh"].tolist()]
    else:
        mine, source = case["box_clip"], case["box_source"]
        every = case["boxes_normalized"]
        per_source = [
            [every[(mine == clip) & (source == k)].tolist() for k in range(count)] for clip in range(clips)
        ]
    drawn = [[added_boxes(pixel_boxes(box, size, ""), size) for box in clip] for clip in per_source]
    return torch.stack([torch.stack(clip) for clip in drawn])


@pytest.mark.parametrize("name", ["one_frame", "two_frames"])
def test_golden_numbers_of_avgn(golden, name):
    case = golden[name]
    truths, maps = added_truths(case), torch.from_numpy(case["maps"])
    every = []
    for k in range(maps.shape[1]):
        expected = case["compat"][f"source{k}"]
        cosines = upsample(maps[:, k], case["size"], case["upsampling"])
        found = {name: values.numpy() for name, values in avgn_measure(cosines, truths[:, k]).items()}
        for column, values in found.items():
            close(values, expected[column], (k, column))
        close(truths[:, k].sum((1, 2)), expected["area"])
        every.append(avgn_numbers(found))
        assert every[-1] == pytest.approx(expected["summary"], abs=1e-6)
    means = {name: sum(one[name] for one in every) / len(every) for name in every[0]}
    assert means == pytest.approx(case["compat"]["summary"], abs=1e-6)


def test_golden_numbers_of_noprior(golden):
    case = golden["joined"]
    parts, clips, right = case["parts"], [], []
    for maps, truths in joined_clips(case):
        own = torch.stack([truths[k].unflatten(0, (parts, -1))[k] for k in range(parts)])
        clips.append(noprior_measure(maps.unflatten(1, (parts, -1)), own))
        right.append(len(maps) == parts)
    assert [len(clip["ciou"]) for clip in clips] == case["compat"]["entries"].tolist()
    for column in ("ciou", "cap", "piap"):
        close([value for clip in clips for value in clip[column]], case["compat"][column], column)
    expected = case["compat"]["summary"]
    numbers = noprior_numbers(clips, right)
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_pairs_are_the_best_of_all_one_to_one_choices(maps, clip_sources, seed):
    values = np.random.default_rng(seed).random((maps, clip_sources))
    chosen = sources.pairs(torch.from_numpy(values))
    few, many = sorted((maps, clip_sources))
    best = max(
        sum(values[(k, other) if maps <= clip_sources else (other, k)] for k, other in enumerate(order))
        for order in itertools.permutations(range(many), few)
    )
    assert len(chosen) == few and len({k for k, _ in chosen}) == len({k for _, k in chosen}) == few
    assert sum(values[pair] for pair in chosen) == pytest.approx(best)


def test_every_source_is_found_whatever_the_order_of_the_maps():
    truths = torch.zeros(2, 8, 4, dtype=torch.bool)
    truths[0, 1:3, 1:3], truths[1, 5:8] = True, True
    for maps in (truths.float(), truths.float().flip(0)):
        found = sources.measure_sources(sources.whole(maps, 2), truths, 0.5)
        assert [values.tolist() for values in found.values()] == [[1, 1]] * 3
    one = sources.measure_sources(sources.whole(truths[:1].float(), 2), truths, 0.5)
    assert one["ciou_theta"].tolist() == [1, 0]
    none = sources.measure_sources(sources.whole(truths[:0].float(), 2), truths, 0.5)
    assert none["ciou_adaptive"].tolist() == [0, 0] and sources.joint_ap(truths[:0].float(), truths) == 0
