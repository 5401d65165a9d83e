"""What is found as data: moments and masks, and what annotation tools read."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cacl.viewing.annotations import LABEL, export, stretches
from cacl.viewing.film import Facts
from cacl.viewing.heat import Scale
from cacl.viewing.tracks import Tracker, found_at, run_lengths, write_track

SCALE = Scale(0.0, 0.4, 0.8)
SIZE = (90, 160)


def place(y, x, value=0.7):
    rows, columns = np.mgrid[:7, :7]
    return (value * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2)).astype(np.float32)


@pytest.fixture
def track():
    """Sounds at 0, 0.2 and 0.4 s, nothing at 0.6 s, sounds again at 0.8 s; the film's clock begins at 7."""
    tracker = Tracker("films/one.mp4", Facts(7.0, 25.0, 25, 1.0, 160 * 90), SCALE)
    for k, (raw, sounds) in enumerate(
        [
            (place(3, 2), True),
            (place(3, 3), True),
            (place(3, 4), True),
            (place(3, 4, 0.2), False),
            (place(1, 1), True),
        ]
    ):
        tracker.add(7 + k / 5, raw, SIZE, sounds)
    return tracker.track()


def test_run_lengths_hold_every_pixel():
    random = np.random.default_rng(0)
    for k in range(200):
        mask = random.random(random.integers(1, 60, 2)) < random.random()
        if k % 5 == 0:
            mask[:] = k % 2
        held = json.loads(json.dumps(run_lengths(mask)))
        assert np.array_equal(coco_mask.decode(held), mask)


def test_a_moment_is_the_area_around_the_peak_and_nothing_below_theta():
    y, x = np.mgrid[:90, :160]
    values = 0.7 * np.exp(-((y - 30) ** 2 + (x - 40) ** 2) / 200) + 0.6 * np.exp(
        -((y - 70) ** 2 + (x - 130) ** 2) / 200
    )
    one = found_at(values, 1.25, 31, SCALE, True)
    area = (values > 0.4) & (x < 80)
    assert one.area == area.sum() and one.box is not None and one.mask is not None
    np.testing.assert_array_equal(coco_mask.decode({**one.mask, "counts": one.mask["counts"].encode()}), area)
    rows, columns = np.nonzero(area.any(1))[0], np.nonzero(area.any(0))[0]
    corners = columns[0] / 160, rows[0] / 90, (columns[-1] + 1) / 160, (rows[-1] + 1) / 90
    assert one.box == pytest.approx(corners, abs=1e-5)
    assert one.point == pytest.approx((40.5 / 160, 30.5 / 90), abs=1e-5)
    assert one.value == pytest.approx(0.7, abs=1e-3) and one.confidence == pytest.approx(0.875, abs=1e-3)
    for sounds in (False, None):
        quiet = found_at(values, 1.25, 31, SCALE, sounds)
        assert (quiet.sounds, quiet.box, quiet.mask, quiet.area) == (sounds, None, None, 0)


def test_a_track_says_its_format_and_every_moment(track, tmp_path):
    write_track(tmp_path / "one.json", track)
    found = json.loads((tmp_path / "one.json").read_text())
    assert found["format_version"] == 1 and found["scale"] == {"zero": 0.0, "theta": 0.4, "best": 0.8}
    assert (found["film"], found["width"], found["height"], found["frames"]) == ("one.mp4", 160, 90, 25)
    assert [one["frame"] for one in found["moments"]] == [0, 5, 10, 15, 20]
    assert [one["sounds"] for one in found["moments"]] == [True, True, True, False, True]
    assert found["moments"][3]["box"] is None and found["moments"][3]["mask"] is None


def test_coco_opens_what_is_exported(track, tmp_path):
    export("coco", tmp_path / "one.json", track)
    opened = COCO(tmp_path / "one.json")
    assert len(opened.imgs) == 5 and len(opened.anns) == 4 and opened.cats[1]["name"] == LABEL
    for one in opened.anns.values():
        mask = opened.annToMask(one).astype(bool)
        assert mask.shape == SIZE and mask.sum() == one["area"] > 0
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        sides = columns[0], rows[0], len(columns), len(rows)
        assert one["bbox"] == pytest.approx(sides, abs=0.02)
    assert opened.imgs[2]["file_name"] == "one_000005.jpg" and opened.imgs[2]["time"] == 7.2
    found = opened.loadRes([dict(one) for one in opened.anns.values()])
    assert len(found.anns) == 4, "and as results, which have a score"


def test_cvat_has_a_track_for_each_stretch_that_is_over_where_nothing_sounds(track, tmp_path):
    """By the documentation of "CVAT for video 1.1": tracks of boxes with frame, outside, occluded, keyframe."""
    export("cvat", tmp_path / "one.xml", track)
    root = ElementTree.parse(tmp_path / "one.xml").getroot()
    assert root.tag == "annotations" and root.findtext("version") == "1.1"
    task = root.find("meta/task")
    assert task is not None and task.findtext("mode") == "interpolation" and task.findtext("size") == "25"
    assert task.findtext("labels/label/name") == LABEL
    assert [task.findtext(f"original_size/{side}") for side in ("width", "height")] == ["160", "90"]
    lines = root.findall("track")
    assert [line.attrib for line in lines] == [
        {"id": str(k), "label": LABEL, "source": "auto"} for k in range(2)
    ]
    frames = [[(box.get("frame"), box.get("outside")) for box in line] for line in lines]
    assert frames == [[("0", "0"), ("5", "0"), ("10", "0"), ("15", "1")], [("20", "0")]]
    for box in root.iter("box"):
        assert set(box.attrib) == {
            "frame", "outside", "occluded", "keyframe", "xtl", "ytl", "xbr", "ybr", "z_order",
        }  # fmt: skip
        corners = [float(box.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr")]
        assert 0 <= corners[0] < corners[2] <= 160 and 0 <= corners[1] < corners[3] <= 90


def test_label_studio_has_key_frames_from_1_that_are_enabled_while_it_sounds(track, tmp_path):
    """By its documentation: `videorectangle`, percent of the picture, on from a key frame to one that is not enabled."""
    export("labelstudio", tmp_path / "one.json", track)
    (task,) = json.loads((tmp_path / "one.json").read_text())
    assert task["data"] == {"video": "one.mp4"}
    results = task["predictions"][0]["result"]
    assert {(one["type"], one["from_name"], one["to_name"]) for one in results} == {
        ("videorectangle", "box", "video")
    }
    keys = [[(key["frame"], key["enabled"]) for key in one["value"]["sequence"]] for one in results]
    assert keys == [[(1, True), (6, True), (11, True), (15, False)], [(21, True), (25, False)]]
    for one in results:
        assert one["value"]["framesCount"] == 25 and one["value"]["duration"] == 1.0
        assert one["value"]["labels"] == [LABEL] and 0 < one["score"] <= 1
        for key in one["value"]["sequence"]:
            assert key["time"] == pytest.approx(key["frame"] / 25)
            assert 0 <= key["x"] <= key["x"] + key["width"] <= 100.01


def test_stretches_end_where_the_next_moment_says_nothing_and_with_the_film(track):
    assert [(len(stretch), end) for stretch, end in stretches(track)] == [(3, 15), (1, 25)]
