"""Golden values of SSLalignment's evaluator: the adaptive rule, and pictures of which all is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.evaluator import Evaluator, evaluate
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.protocols.alignment import QUIRKS, alignment_protocol
from cacl.evaluation.protocols.interactive import interactive_protocol, lowest
from cacl.evaluation.summary import compare, statistics
from cacl.evaluation.systems import measure_maps
from tests.evaluation.golden import cases, check_numbers, truths


@pytest.fixture(scope="module")
def golden(golden_dir):
    return cases(golden_dir / "iiou.npz")


def measured(case, protocol):
    """Return a protocol's results on a case."""
    protocol = replace(protocol, size=case["size"], upsampling=case["upsampling"])
    maps = torch.from_numpy(case["maps"])
    columns = measure_maps(maps, {"boxes": truths(case, len(maps))}, protocol)
    return ClipResults(
        index=np.arange(len(maps)),
        id=case["name"],
        class_name=np.full(len(maps), ""),
        boxes=np.ones(len(maps), dtype=np.int64),
        columns={name: column.numpy() for name, column in columns.items()},
        image=np.array([f"picture {number}" for number in case["image"]]),
    )


def check_cious(results, expected, name):
    for ours, theirs in (("ciou_top50", "ciou"), ("ciou_adaptive", "ciou_adaptive")):
        np.testing.assert_allclose(results[ours], expected[theirs], rtol=0, atol=1e-6, err_msg=name)


def test_golden_clean_numbers_of_clips_and_pictures(golden):
    """Our maps are not scaled to 0..1, which changes no order."""
    for name, case in golden.items():
        protocol = interactive_protocol("golden", version=1, consensus=bool(case["consensus"]))
        results = measured(case, protocol)
        np.testing.assert_array_equal(results["area"], case["truth_sum"], err_msg=name)
        check_cious(results, case["clean"], name)
        expected = dict(case["clean"]["summary"])
        assert expected.pop("mean_ciou") == pytest.approx(results["ciou_top50"].mean(), abs=1e-6)
        check_numbers(protocol.summarize(results), expected)
        for end in ("", "_adaptive"):
            right = protocol.per_picture(results)[f"iiou{end}"]
            np.testing.assert_array_equal(right, case["clean"][f"image_all_right{end}"], err_msg=name)


def test_golden_compatible_numbers_and_each_quirk_off_is_the_clean_form(golden):
    for name, case in golden.items():
        protocol = alignment_protocol("golden", version=1, consensus=bool(case["consensus"]))
        results = measured(case, protocol)
        check_cious(results, case["compat"], name)
        expected = {
            metric: value for metric, value in case["compat"]["summary"].items() if "ogl" not in metric
        }
        check_numbers(protocol.summarize(results), expected)
        for end in ("", "_adaptive"):
            right = protocol.per_picture(results)[f"iiou{end}"]
            np.testing.assert_array_equal(right, case["compat"][f"image_all_right{end}"], err_msg=name)
        sane = protocol.alter(None, QUIRKS)
        results = measured(case, sane)
        check_cious(results, case["clean"], name)
        check_numbers(sane.summarize(results), case["clean"]["summary"])


def test_golden_object_guidance_is_min_max_mixing(golden):
    """EZ-VSL's mixing of both maps, each scaled to 0..1, before this evaluator."""
    from cacl.evaluation.refinement import MinMax

    for name, case in golden.items():
        protocol = alignment_protocol("golden", version=1, consensus=bool(case["consensus"]))
        pair = (torch.from_numpy(case[key]) for key in ("maps", "object_maps"))
        sizes = (protocol.scores(maps, case["size"], case["upsampling"]) for maps in pair)
        mixed = MinMax(case["alpha"]).mix(*sizes).numpy()
        results = measured({**case, "maps": mixed}, protocol)
        guided = {key.removeprefix("ogl_"): value for key, value in case["compat"].items() if "ogl" in key}
        check_cious(results, guided, name)


def test_the_evaluator_alone_groups_clips_by_their_picture():
    """Three sounds over two pictures, and a clip that shares none."""
    maps = np.zeros((4, 4, 4), dtype=np.float32)
    maps[0, :, :2] = maps[1, :, :2] = maps[2, :, 2:] = maps[3, :2] = 1
    left: list[tuple[float, ...]] = [(0, 0, 0.5, 1)]
    right: list[tuple[float, ...]] = [(0.5, 0, 1, 1)]
    boxes: list[list[tuple[float, ...]]] = [left, right, right, [(0, 0, 1, 0.5)]]
    numbers = evaluate(maps, boxes, "is3", images=["a", "a", "b", None], upsampling="nearest")
    assert (numbers["ciou"], numbers["ciou_adaptive"]) == (0.75, 0.75)
    assert (numbers["iiou"], numbers["iiou_adaptive"]) == pytest.approx((2 / 3, 2 / 3))
    assert numbers["iauc_adaptive"] == pytest.approx((1 + 1 + 0.025) / 3)  # 0 reaches the threshold 0
    alone = evaluate(maps, boxes, "is3", upsampling="nearest")
    assert (alone["iiou"], alone["iauc"]) == (alone["ciou"], alone["auc"])


def results_of(pictures, ciou, silent=0):
    """Clips of which the last ones are silent."""
    clips = len(ciou)
    columns = {name: np.asarray(ciou, float) for name in ("ciou_top50", "ciou_adaptive", "ciou_absolute")}
    columns |= {"area": np.full(clips, 900.0), "confidence": np.linspace(0, 1, clips)}
    columns |= {"peak_in_box": np.ones(clips, bool), "ceiling_ciou_top50": np.linspace(0.4, 0.8, clips)}
    boxes = np.array([1] * (clips - silent) + [0] * silent)
    index = np.arange(clips)
    return ClipResults(index, index.astype(str), np.full(clips, "dog"), boxes, columns, np.array(pictures))


def test_silent_clips_of_a_picture_count_in_no_picture():
    results = results_of(["a", "", "a", "a", "b"], [0.7, 0.2, 0.6, 0.0, 0.0], silent=2)
    assert lowest(results, "ciou_top50").tolist() == [0.6, 0.2]
    assert results.pictures.tolist() == [0, 1, 0, 0, 2]
    assert PROTOCOLS["is3"].ceiling(results)["iiou"] == pytest.approx(
        0.5
    )  # 0.4 of the first bounds all of it
    assert PROTOCOLS["is3"].ceiling(results)["iiou_adaptive"] == 1


def test_intervals_of_pictures_draw_pictures():
    """Promise 14: clips of one picture are no independent draws."""
    pictures = [f"picture {k // 2}" for k in range(80)]
    ciou = np.where(np.arange(80) // 2 % 4 > 0, 0.8, 0.1)
    results = results_of(pictures, ciou)
    found = statistics([results], PROTOCOLS["is3"])
    assert (found["iiou"].clips, found["iiou"].unit) == (40, "pictures")
    assert (found["ciou"].clips, found["ciou"].unit) == (80, "clips")
    wide, narrow = found["iiou"].interval(), found["ciou"].interval()
    # Twice as many clips that say the same thing twice: their interval is too narrow by the root of 2.
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2**0.5, rel=0.15)
    worse = results_of(pictures, np.where(np.arange(80) % 2, ciou, 0.1))
    compared = compare([worse], [results], PROTOCOLS["is3"])["iiou"]
    assert "(two − one: 95 % interval" in compared.sentence(("one", "two"), "iiou")
    assert ", 40 pictures, one seed)" in compared.sentence(("one", "two"), "iiou")
    assert compared.mcnemar is not None and compared.mcnemar.only_second == 30


def test_results_keep_pictures_and_curves_in_a_file(tmp_path):
    results = results_of(["a", "", "a"], [0.7, 0.2, 0.6])
    results = replace(results, columns={**results.columns, "curve": np.arange(6.0).reshape(3, 2)})
    again = ClipResults.from_table(results.to_table())
    assert again.image.tolist() == ["a", "", "a"]
    np.testing.assert_array_equal(again["curve"], results["curve"])
    older = results.to_table().drop_columns(["image"])
    assert ClipResults.from_table(older).image.tolist() == ["", "", ""]


def test_batches_know_the_picture_of_every_clip():
    whole, cut = Evaluator("vpo-ss"), Evaluator("vpo-ss")
    maps = np.random.default_rng(0).normal(size=(6, 5, 5))
    boxes, images = [[(0.1, 0.1, 0.7, 0.6)]] * 6, ["a", "b", "a", "b", "c", "c"]
    whole.update(maps, boxes, images=images)
    for k in range(0, 6, 2):
        cut.update(maps[k : k + 2], boxes[k : k + 2], images=images[k : k + 2])
    assert cut.compute() == whole.compute()
    assert cut.results().image.tolist() == images
