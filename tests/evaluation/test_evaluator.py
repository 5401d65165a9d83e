"""Promise 17: the evaluator alone, on maps and boxes of any origin."""

from __future__ import annotations

import doctest
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from cacl.evaluation import evaluator
from cacl.evaluation.evaluator import Evaluator, evaluate
from cacl.evaluation.protocols.slavc import Rules, slavc_protocol

GENERATOR = np.random.default_rng(0)
MAPS = GENERATOR.uniform(-1, 1, (6, 7, 9)).astype(np.float32)
BOXES: list[list[tuple[float, ...]]] = [
    [(0.1, 0.2, 0.5, 0.8)],
    [(0, 0, 1, 1), (0.3, 0.3, 0.4, 0.4)],
    [],
    [(0.5, 0.5, 0.9, 0.7)],
    [],
    [],
]
PIXELS = [[(x0 * 320, y0 * 240, x1 * 320, y1 * 240) for x0, y0, x1, y1 in boxes] for boxes in BOXES]


def protocol_of(spec):
    """Return a golden case's protocol, its registered one where there is one, and the upsampling."""
    upsampling = "bicubic-corners" if spec["align_corners"] else "bicubic"
    consensus = spec["box_format"] == "flickr"
    if spec["relative_prediction"]:
        return "slavc-compat-flickr" if consensus else "slavc-compat", upsampling
    rules = Rules(relative=False, tau=spec["tau"], absolute_threshold=spec["pred_fraction"])
    return slavc_protocol("golden", version=1, consensus=consensus, rules=rules), upsampling


def test_golden_cases_are_met_from_boxes_in_pixels(golden_dir):
    """All of SLAVC's evaluator, through NumPy maps and boxes in pixels of 224 × 224."""
    for name, case in json.loads((golden_dir / "evaluator.json").read_text()).items():
        protocol, upsampling = protocol_of(case["protocol"])
        side = case["protocol"]["size"]
        assert side == 224
        numbers = evaluate(
            np.array(case["maps"]), case["boxes"], protocol, size=(side, side), upsampling=upsampling
        )
        for metric, value in case["summary"].items():
            assert numbers[metric] == pytest.approx(value, abs=1e-6), (name, metric)


def test_every_pixel_is_drawn_where_it_is():
    """61 / 224 · 224 is less than 61 in floating point."""
    column = np.zeros((224, 224, 224), dtype=np.float32)
    column[np.arange(224), 0, np.arange(224)] = 1
    numbers = evaluate(column, [[(x, 0, x + 1, 1)] for x in range(224)], size=(224, 224))
    assert numbers["peak_in_box"] == 1
    shifted = evaluate(
        column, [[(x + 1, 0, x + 2, 1)] for x in range(223)] + [[(0, 0, 1, 1)]], size=(224, 224)
    )
    assert shifted["peak_in_box"] == 0


@pytest.mark.parametrize(
    "maps",
    [
        MAPS,
        torch.from_numpy(MAPS),
        torch.from_numpy(MAPS).requires_grad_(),
        MAPS.astype(np.float64),
        MAPS.tolist(),
    ],
    ids=["numpy", "torch", "with gradient", "double", "lists"],
)
@pytest.mark.parametrize(("boxes", "size"), [(BOXES, None), (PIXELS, (320, 240)), (PIXELS, [(320, 240)] * 6)])
def test_maps_and_boxes_may_be_of_any_kind(maps, boxes, size):
    assert evaluate(maps, boxes, "extended-vggss", size=size) == evaluate(MAPS, BOXES, "extended-vggss")


def test_batches_are_the_whole_and_a_refused_one_leaves_nothing():
    batched = Evaluator("extended-vggss")
    for rows in (slice(0, 1), slice(1, 1), slice(1, 5)):
        batched.update(MAPS[rows], BOXES[rows])
    with pytest.raises(UserError, match="clip 5: its map holds NaN or infinity; "):
        batched.update(np.full((1, 7, 7), np.nan), [[]])
    batched.update(torch.from_numpy(MAPS[5:]), BOXES[5:])
    assert len(batched) == 6
    assert batched.compute() == evaluate(MAPS, BOXES, "extended-vggss")
    assert batched.results().id.tolist() == list("012345")
    assert batched.results().index.tolist() == list(range(6))


def masks():
    """Return the pixels of the first box of every clip, none where it is silent."""
    found = np.zeros((6, 60, 80), dtype=bool)
    for mask, boxes in zip(found, BOXES, strict=True):
        for x0, y0, x1, y1 in boxes[:1]:
            mask[round(y0 * 60) : round(y1 * 60), round(x0 * 80) : round(x1 * 80)] = True
    return found


@pytest.mark.parametrize(
    "given",
    [
        masks(),
        torch.from_numpy(masks()),
        list(masks()),
        masks() * np.uint8(255),
        masks().astype(np.uint8),
        masks().astype(np.int64),
        masks() * 1.0,
    ],
    ids=["bool", "torch", "list", "uint8 of 255", "uint8 of 1", "int64", "float"],
)
def test_masks_may_be_of_any_kind(given):
    numbers = evaluate(MAPS, BOXES, "extended-stamps", masks=given)
    assert numbers == evaluate(MAPS, BOXES, "extended-stamps", masks=masks())
    assert 0 < numbers["miou"] < 1 and 0 < numbers["pixel_ap"] < 1


def test_upsampling_and_quirks_are_those_of_the_command():
    plain, near = (evaluate(MAPS, BOXES, upsampling=upsampling) for upsampling in (None, "nearest"))
    assert plain != near
    with pytest.raises(UserError, match="upsampling: there is no 'cubic'; choose one of bicubic, bilinear, "):
        Evaluator(upsampling="cubic")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"slavc-compat: there is no quirk 'x'; its quirks are"):
        Evaluator("slavc-compat", without_quirks=["x"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": "vgg"}, "there is no protocol 'vgg'; choose one of scenes, stamps, "),
        ({"maps": MAPS[0]}, r"maps: expected real numbers \[N, h, w\], one map a clip, got float32 \[7, 9\]"),
        ({"maps": MAPS[:5]}, "boxes: 6 for 5 maps; give one entry for every clip"),
        ({"ids": ["a"]}, "ids: 1 for 6 maps"),
        ({"maps": np.where(np.arange(6)[:, None, None] % 3 == 2, np.inf, MAPS)}, r"clip 2: its map holds NaN or infinity \(and those of 1 other clips\)"),
        ({"boxes": PIXELS}, r"clip 0: boxes: \[32.0, 48.0, 160.0, 192.0\] is not in 0..1; give size=\(width, "),
        ({"boxes": PIXELS, "size": (64, 48)}, r"clip 0: boxes: .* is not in a picture of 64 × 48 pixels; give its"),
        ({"boxes": [[(0, 0, 1)], *BOXES[1:]]}, r"clip 0: boxes: \[0.0, 0.0, 1.0\] is not a box of four finite"),
        ({"boxes": [*BOXES[:5], [(0, 0, 1, np.nan)]]}, r"clip 5: boxes: .* is not a box of four finite numbers"),
        ({"boxes": [(0, 0, 1, 1)] * 6}, r"clip 0: boxes: expected a list of \(x0, y0, x1, y1\), empty where"),
        ({"boxes": [None] * 6}, r"clip 0: boxes: expected a list .*, got None"),
        ({"boxes": [[]] * 6}, "no clip has boxes, so that there is nothing to find"),
        ({"size": (320, 0)}, r"size: expected \(width, height\) in pixels, one for all clips or one a clip, got"),
        ({"size": [(320, 240)] * 5}, r"size: expected \(width, height\)"),
        ({"masks": masks()}, "protocol vggss: compares with boxes alone; leave out masks="),
        ({"protocol": "stamps"}, r"protocol stamps: compares with masks; give masks=, \[N, H, W\]"),
        ({"protocol": "stamps", "masks": masks()[:2]}, "masks: 2 for 6 maps"),
        ({"protocol": "stamps", "masks": masks()[..., None]}, r"clip 0: its mask has shape \[60, 80, 1\]"),
        ({"protocol": "stamps", "masks": masks() * 2.0}, "clip 0: its mask holds 0 to 2; give bool, uint8 with"),
        ({"ids": list("abcdea")}, "the test set holds the id 'a' twice"),
        ({"maps": MAPS[:0], "boxes": []}, "the evaluator holds no clip; add maps first"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=f"^{sentence}"):
        evaluate(**{"maps": MAPS, "boxes": BOXES, **changes})


def test_clips_are_named_by_their_ids():
    with pytest.raises(UserError, match=r"^clip dog: boxes: "):
        evaluate(MAPS[:2], [[], [(0, 0, 300, 1)]], ids=["cat", "dog"])


def test_boxes_are_clipped_as_the_public_list_needs_it():
    """VGG-SS holds corners far left of the picture."""
    far = evaluate(MAPS[:1], [[(-2.9e16, -0.3, 0.5, 0.8)]])
    assert far == evaluate(MAPS[:1], [[(0, 0, 0.5, 0.8)]])


def test_a_protocol_of_ones_own_is_taken_as_it_is():
    coarse = replace(Evaluator("vggss").protocol, name="mine", size=28)
    assert evaluate(MAPS, BOXES, coarse) != evaluate(MAPS, BOXES)


def test_the_examples_give_what_they_say():
    assert doctest.testmod(evaluator).failed == 0


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_order_batches_and_processes_change_no_bit(data):
    """Promise 13: a number is a function of what was measured alone."""
    count = data.draw(st.integers(2, 12))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    maps = random.normal(size=(count, 5, 5)).astype(np.float32)
    corners = np.sort(random.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4)
    boxes = [[tuple(box)] if random.random() < 0.8 or k == 0 else [] for k, box in enumerate(corners)]
    expected = evaluate(maps, boxes, "extended-vggss")
    order = np.array(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=3)))
    parts = np.split(order, cuts)
    one, other = Evaluator("extended-vggss"), Evaluator("extended-vggss")
    for part, whose in zip(parts, [one, other, other, one], strict=False):
        whose.update(maps[part], [boxes[k] for k in part])
    other.merge(pickle.loads(pickle.dumps(one)))
    assert other.compute() == expected and len(other) == count


def test_merged_clips_keep_their_names_and_twice_is_refused():
    one, other = Evaluator("vggss"), Evaluator("vggss")
    one.update(MAPS[:2], BOXES[:2], ids=["x", "y"])
    other.update(MAPS[3:4], BOXES[3:4])
    other.merge(one)
    assert other.results().id.tolist() == ["0", "x", "y"]
    other.merge(one)
    with pytest.raises(UserError, match="'x' twice"):
        other.compute()
    with pytest.raises(UserError, match=r"merge: .*vggss version .*bicubic, the other by .*bilinear"):
        one.merge(Evaluator("vggss", upsampling="bilinear"))


def test_a_pickled_evaluator_keeps_its_quirks():
    again = pickle.loads(pickle.dumps(Evaluator("slavc-compat", without_quirks=["thinned-ap"])))
    assert "thinned-ap" not in again.protocol.quirks and "thinned-f1" in again.protocol.quirks
    again.update(MAPS, BOXES)
    assert again.compute() == evaluate(MAPS, BOXES, "slavc-compat", without_quirks=["thinned-ap"])
