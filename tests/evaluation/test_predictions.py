"""Promise 13: any model's maps, masks and boxes are measured from a file, regions by figures of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cacl
from cacl.errors import UserError
from cacl.evaluation.results import read_clips, read_record
from launch.jobs.compare import compare, share_clips
from launch.jobs.predictions import evaluate_predictions
from launch.main import main
from shards.sources.boxes import read_boxes

BOXES = {
    "a": [[0.0, 0.0, 0.5, 0.5]],
    "b": [[0.25, 0.25, 1.0, 0.75], [0.0, 0.0, 0.1, 0.1]],
    "c": [[0.5, 0.5, 0.75, 1.0]],
    "d": [],
}


@pytest.fixture
def boxes(tmp_path) -> Path:
    entries = [{"file": name, "class": "dog", "bbox": found} for name, found in BOXES.items()]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    return tmp_path / "boxes.json"


def save_maps(folder: Path, ids: str = "abcd", seed: int = 0) -> Path:
    maps = np.random.default_rng(seed).uniform(-1, 1, (len(ids), 9, 5))
    np.savez(folder / f"maps{seed}.npz", maps=maps, id=list(ids))
    return folder / f"maps{seed}.npz"


def measure(predictions: Path, boxes: Path, out: str = "out", **more: Any) -> dict[str, Any]:
    return evaluate_predictions(predictions, boxes, boxes.parent / out, **{"protocol": "boxes", **more})


def test_maps_of_a_file_get_the_numbers_of_the_evaluator(boxes, tmp_path):
    file = save_maps(tmp_path, "cadb")
    record = measure(file, boxes)
    maps = np.load(file)["maps"]
    expected = cacl.evaluate(maps, [BOXES[name] for name in "cadb"], protocol="boxes")
    assert record["model"] == pytest.approx(expected) and record["n"] == 4
    assert {"centered_box", "ceiling", "intervals"} <= set(record)
    clips = read_clips(tmp_path / "out", "boxes")["model"]
    assert clips.id.tolist() == list("abcd") and clips.boxes.tolist() == [1, 2, 1, 0]


def test_clips_without_a_prediction_are_missing_and_others_are_said(boxes, tmp_path):
    said: list[str] = []
    record = measure(save_maps(tmp_path, "xbc"), boxes, say=said.append)
    assert record["missing"] == ["a", "d"] and record["n"] == 2
    assert said == [f"{tmp_path / 'maps0.npz'}: 1 predictions of clips that are not asked for (x)"]
    listed = measure(save_maps(tmp_path, "abc"), boxes, ids=["b", "c"])
    assert listed["missing"] == [] and listed["n"] == 2


def as_regions(folder: Path, kind: str) -> Path:
    """Write the same masks in three forms: a box that is right, one half right, one wrong, all of a silent clip."""
    found = {"a": [0, 0, 56, 56], "b": [28, 28, 112, 84], "c": [0, 0, 56, 56], "d": [0, 0, 112, 112]}
    entries = []
    for name, (x0, y0, x1, y1) in found.items():
        mask = np.zeros((112, 112), np.uint8)
        mask[y0:y1, x0:x1] = 255
        if kind == "png":
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
        elif kind == "box":
            box = [edge / 112 for edge in (x0, y0, x1, y1)]
            entries.append({"image_id": name, "bbox": box, "score": 0.9})
            entries.append({"image_id": name, "bbox": [0, 0, 1, 1], "score": 0.1})
        else:
            from pycocotools import mask as coco

            coded = coco.encode(np.asfortranarray(mask > 0))
            counts: Any = coded["counts"].decode()
            if kind == "lengths":
                runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[-1], mask.T.ravel() > 0, [-1]]))))
                counts = [0, *runs.tolist()] if mask[0, 0] else runs.tolist()
            entries.append({"image_id": name, "segmentation": {"size": [112, 112], "counts": counts}})
    if kind == "png":
        return folder / "masks"
    (folder / f"{kind}.json").write_text(json.dumps(entries))
    return folder / f"{kind}.json"


@pytest.mark.parametrize("kind", ["png", "box", "rle", "lengths"])
def test_regions_are_measured_by_their_own_figures_whatever_their_form(boxes, tmp_path, kind):
    record = measure(as_regions(tmp_path, kind), boxes)
    # b: 84 x 56 of 112 pixels less nothing; the small box of 11.2 pixels is missed.
    missed = (22 * 22) / (168 * 112 + 22 * 22)
    iou = [1.0, 1 - missed, 0.0]
    assert record["protocol"] == "boxes-region"
    assert record["model"]["region_miou"] == pytest.approx(np.mean(iou))
    assert record["model"]["region_iou_50"] == pytest.approx(2 / 3)
    assert record["model"]["region_share_of_silent"] == 1
    assert not {"ciou", "ap", "max_f1", "peak_in_box"} & set(record["model"])
    assert "curve" not in record and "centered_box" not in record


def test_boxes_below_the_threshold_do_not_count_and_the_result_says_which(boxes, tmp_path):
    record = measure(as_regions(tmp_path, "box"), boxes, threshold=0.05)
    assert record["model"]["region_share_of_silent"] == 1 and record["name"] == "boxes-region,threshold=0.05"
    assert (
        record["model"]["region_iou_50"]
        == 0
        < measure(as_regions(tmp_path, "box"), boxes)["model"]["region_iou_50"]
    )


def test_two_commands_lead_to_a_compared_table(boxes, tmp_path, capsys):
    for seed in (0, 1):
        words = [
            "--predictions",
            str(save_maps(tmp_path, seed=seed)),
            "--boxes",
            str(boxes),
            "--protocol",
            "boxes",
        ]
        assert main(["evaluate", *words, "--out", str(tmp_path / f"model{seed}")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^boxes version \d+, upsampling bicubic: 4 clips", shown) and "centered box" in shown
    assert main(["compare", str(tmp_path / "model0"), str(tmp_path / "model1")]) == 0
    assert "ciou: " in capsys.readouterr().out
    assert main(["evaluate", "--predictions", str(as_regions(tmp_path, "png")), "--boxes", str(boxes),
                 "--protocol", "boxes", "--out", str(tmp_path / "model2")]) == 0  # fmt: skip
    assert main(["compare", str(tmp_path / "model0"), str(tmp_path / "model2")]) == 2
    assert "boxes-region" in capsys.readouterr().err + read_record(tmp_path / "model2")["name"]


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


MASK = {"size": [4, 4], "counts": [0, 16]}
REFUSED: dict[str, tuple[str, Any, str]] = {
    "nothing": ("p.npz", {"maps": np.zeros((0, 2, 2)), "id": np.zeros(0, str)}, "holds no prediction"),
    "no id": ("p.npz", {"maps": np.zeros((1, 2, 2))}, "is no file of maps"),
    "two lengths": ("p.npz", {"maps": np.zeros((2, 2, 2)), "id": ["a"]}, "2 maps and 1 ids"),
    "four axes": ("p.npz", {"maps": np.zeros((1, 1, 2, 2)), "id": ["a"]}, r"real numbers \[N, h, w\]"),
    "text": ("p.npz", {"maps": np.full((1, 2, 2), "x"), "id": ["a"]}, "real numbers"),
    "a pickle": ("p.npz", {"maps": np.full((1, 2, 2), None), "id": ["a"]}, "is no file of maps"),
    "NaN": ("p.npz", {"maps": np.full((1, 2, 2), np.nan), "id": ["b"]}, "clip b: its map holds NaN"),
    "twice": ("p.npz", {"maps": np.zeros((2, 2, 2)), "id": ["a", "a"]}, "clip a twice"),
    "others": ("p.npz", {"maps": np.zeros((1, 2, 2)), "id": ["x"]}, "none of its 1 clips, such as x, has boxes"),
    "no JSON": ("p.json", "{", "is no list of COCO's results"),
    "no list": ("p.json", {"a": 1}, "is no list of COCO's results"),
    "neither": ("p.json", [{"image_id": "a"}], "needs segmentation or bbox"),
    "pixels": ("p.json", [{"image_id": "a", "bbox": [0, 0, 99, 99]}], r"clip a: is no region .*in 0\.\.1"),
    "score": ("p.json", [{"image_id": "a", "bbox": [0, 0, 1, 1], "score": "x"}], "clip a: is no region"),
    "short": ("p.json", [{"image_id": "a", "segmentation": {**MASK, "counts": [3]}}], "do not fill"),
    "huge": ("p.json", [{"image_id": "a", "segmentation": {"size": [10**6] * 2, "counts": [0]}}], "its size is"),
    "odd": ("p.json", [{"image_id": "a", "segmentation": {**MASK, "counts": "~~~~~~"}}], "clip a: is no region"),
    "another ending": ("p.csv", "a", "neither a folder nor"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_none_are_one_sentence(case, boxes, tmp_path):
    name, content, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as error:
        measure(write(tmp_path / name, content), boxes)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--predictions", "p.npz"], "--boxes: missing"),
        (
            ["--predictions", "p.npz", "--boxes", "b", "--out", "o", "--weights", "ema"],
            "--weights: goes with --run",
        ),
        (["--run", "r", "--boxes", "b"], "--boxes: goes with --predictions"),
        (["--predictions", "none.npz", "--boxes", "b", "--out", "o"], "there is no such file"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(words, sentence, capsys):
    assert main(["evaluate", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_protocol_of_masks_or_ranks_refuses_regions(boxes, tmp_path):
    for protocol, words in (("stamps", "measures masks"), ("slavc-compat", "have no order of pixels")):
        with pytest.raises(UserError, match=words):
            measure(as_regions(tmp_path, "box"), boxes, protocol=protocol)
    with pytest.raises(UserError, match="measures regions"):
        measure(save_maps(tmp_path), boxes, protocol="boxes-region")


def test_clips_that_both_have_are_compared_by_their_ids(boxes, tmp_path, capsys):
    measure(save_maps(tmp_path, "abcd"), boxes, "first")
    measure(save_maps(tmp_path, "dcx", seed=1), boxes, "second")
    found = share_clips(
        [read_clips(tmp_path / name, "boxes")["model"] for name in ("first", "second")], [tmp_path] * 2
    )
    assert [one.id.tolist() for one in found] == [["c", "d"]] * 2
    unsorted = read_clips(tmp_path / "first", "boxes")["model"].take(np.array([3, 2, 0]))
    assert share_clips([found[0], unsorted], [tmp_path] * 2)[1].id.tolist() == ["c", "d"]
    assert main(["compare", str(tmp_path / "first"), str(tmp_path / "second")]) == 2
    assert "evaluate both alike" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "first"), str(tmp_path / "second"), "--shared"]) == 0
    assert "2 clips that all have, of 2 and 4" in capsys.readouterr().out
    pair = compare([tmp_path / "first"], [tmp_path / "second"], shared=True)
    one = measure(save_maps(tmp_path, "abcd"), boxes, "one", ids=["c", "d"])
    assert pair.metrics["ciou"].first.value == one["model"]["ciou"] and pair.clips == 2


def test_shared_clips_with_other_boxes_are_refused(boxes, tmp_path):
    measure(save_maps(tmp_path), boxes, "first")
    entries = json.loads(boxes.read_text())
    entries[2]["bbox"] = [[0, 0, 1, 1]]
    boxes.write_text(json.dumps(entries))
    read_boxes.cache_clear()
    measure(save_maps(tmp_path), boxes, "second")
    with pytest.raises(UserError, match=r"clip c has other boxes than in .*first"):
        compare([tmp_path / "first"], [tmp_path / "second"], shared=True)


def test_the_public_list_of_vgg_ss_is_read_with_its_two_boxes_without_a_pixel(tmp_path, lists_dir):
    """They are clips of the set, and always missed, as the field's evaluators count them."""
    ids = [clip["file"] for clip in json.loads((lists_dir / "vggss.json").read_text())]
    np.savez(tmp_path / "maps.npz", maps=np.random.default_rng(0).normal(size=(len(ids), 3, 3)), id=ids)
    record = measure(tmp_path / "maps.npz", lists_dir / "vggss.json", str(tmp_path / "out"), protocol="vggss")
    assert record["n"] == len(ids) and not record["missing"]
    assert record["ceiling"]["ciou_adaptive"] == pytest.approx(1 - 2 / len(ids))


def test_pictures_that_clips_share_come_from_the_boxes(boxes, tmp_path):
    entries = json.loads(boxes.read_text())
    for entry, image in zip(entries, ("p", "p", "q", "r"), strict=True):
        entry["image"] = image
    boxes.write_text(json.dumps(entries))
    read_boxes.cache_clear()
    file = save_maps(tmp_path)
    expected = cacl.Evaluator("is3")
    expected.update(np.load(file)["maps"], [BOXES[name] for name in "abcd"], images=["p", "p", "q", "r"])
    assert measure(file, boxes, protocol="is3")["model"] == pytest.approx(expected.compute())
