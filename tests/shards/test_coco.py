"""COCO's annotations: outlines as the format describes them, an index that is made once, and free crops."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cacl.errors import UserError
from shards.scenes.coco import CocoBackgrounds, CocoPictures, free_crop, open_coco
from shards.scenes.coco_index import decode_runs, open_index, read_counts
from shards.sources.media import BrokenMedia
from tests.shards import collected
from tests.shards.collected import runs_of, text_of


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CACL_CACHE", str(folder))
    open_index.cache_clear()
    return folder


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_runs_are_read_back_as_numbers_and_as_text(mask: np.ndarray) -> None:
    counts = runs_of(mask)
    assert read_counts(text_of(counts)) == counts
    assert np.array_equal(decode_runs(np.array(counts), mask.shape[1], mask.shape[0]), mask)


@given(st.lists(st.integers(0, 500_000), min_size=1, max_size=9))
def test_text_of_large_counts_is_read_back(counts: list[int]) -> None:
    assert read_counts(text_of(counts)) == counts


def test_text_of_runs_that_the_format_s_own_code_wrote() -> None:
    """A square of 3 × 3 in a mask of 9 × 6, encoded by pycocotools."""
    mask = np.zeros((9, 6), bool)
    mask[2:5, 1:4] = True
    assert read_counts(";36000`0") == runs_of(mask) == [11, 3, 6, 3, 6, 3, 22]


def test_objects_are_cut_out_along_their_outlines(tmp_path: Path) -> None:
    """A square of 80 pixels and a rectangle of 60 by 200 in runs: exact areas; its box whatever `bbox` says."""
    source = open_coco("coco", collected.coco(tmp_path), "--objects")
    pictures = CocoPictures(source)
    assert [(one.class_name, one.name, one.origin) for one in pictures.instances] == [
        ("person", "coco/a/12", "a"),
        ("dog", "coco/a/5", "a"),
        ("bowl", "coco/a/7", "a"),
        ("bowl", "coco/c/11", "c"),
    ]
    photograph = np.array(source.photograph(0))
    person, dog = (pictures.read(pictures.instances[k]) for k in (0, 1))
    assert person.shape == (200, 60, 4) and (person[..., 3] == 255).all()
    assert np.array_equal(person[..., :3], photograph[20:220, 200:260])
    assert dog.shape == (80, 80, 4) and (dog[1:-1, 1:-1, 3] == 255).all()
    assert np.array_equal(dog[..., :3], photograph[60:140, 100:180])


def test_the_area_of_a_drawn_outline_is_that_of_its_polygon(tmp_path: Path) -> None:
    """A triangle with corners between pixels; its soft edges make up what whole pixels cannot."""
    triangle = [100.25, 60.5, 201.75, 90.25, 130.5, 180.75]
    whole = json.loads(Path(collected.coco(tmp_path / "first").partition(",")[2]).read_text())
    whole["annotations"] = [{**whole["annotations"][0], "segmentation": [triangle]}]
    source = open_coco("coco", collected.coco(tmp_path / "second", **whole), "--objects")
    x, y = np.array(triangle).reshape(-1, 2).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert source.index.area[0] == pytest.approx(area)
    assert source.alpha(0).sum() / 255 == pytest.approx(area, rel=0.01)


def test_the_index_is_made_once_and_again_for_another_file(tmp_path: Path, cache: Path) -> None:
    file = collected.coco(tmp_path).partition(",")[2]
    open_index(Path(file), "--objects")
    made = {path: path.stat().st_mtime_ns for path in cache.glob("coco-*/*")}
    open_index.cache_clear()
    os.utime(file, (time.time(), 0))
    again = open_index(Path(file), "--objects")
    assert made and {path: path.stat().st_mtime_ns for path in cache.glob("coco-*/*")} == made
    assert isinstance(again.numbers, np.memmap)  # pages that all processes share
    whole = json.loads(Path(file).read_text())
    whole["annotations"] = whole["annotations"][:1]
    Path(file).write_text(json.dumps(whole))
    open_index.cache_clear()
    assert len(open_index(Path(file), "--objects").ids) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 1, "segmentation": []}]}, "KeyError"),
        ({"categories": None}, "TypeError"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": [240, 320], "counts": [7]}}]}, "runs do not fill"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": [2, 3], "counts": [6]}}]}, "runs of 3×2 pixels"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [collected.SQUARE]}] * 2}, "two annotations have one id"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 9, 0, 1e300, 9]]}]}, "nowhere near"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "width": 10**5, "height": 10**5}]}, "has no pixels, or over"),
        ({"annotations": []}, "outlines nothing"),
    ],
    ids=["image", "categories", "short", "size", "twice", "far", "large", "none"],
)  # fmt: skip
def test_a_file_that_is_not_coco_s_is_refused_in_one_sentence(tmp_path: Path, change, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        open_coco("coco", collected.coco(tmp_path, **change), "--objects")
    assert "instances.json" in str(caught.value) and "--objects" in str(caught.value)


def test_a_photograph_of_another_size_than_annotated_is_named(tmp_path: Path) -> None:
    spec = collected.coco(tmp_path)
    Image.new("RGB", (64, 48)).save(tmp_path / "images/a.jpg")
    pictures = CocoPictures(open_coco("coco", spec, "--objects"))
    with pytest.raises(BrokenMedia, match="64×48 pixels, annotated as 320×240") as caught:
        pictures.read(pictures.instances[0])
    assert caught.value.file == "a.jpg"


def test_backgrounds_show_nothing_that_can_be_heard(tmp_path: Path) -> None:
    """Of photograph c all, which shows a bowl alone; of b what lies beside its dogs and persons."""
    backgrounds = CocoBackgrounds(open_coco("coco", collected.coco(tmp_path), "--backgrounds"))
    sizes = {one.name: backgrounds.read(one).shape for one in backgrounds.instances}
    assert sizes["coco/c"] == (240, 320, 3)
    assert "coco/a" not in sizes  # 100 pixels between the square and the rectangle are too few
    assert [one.origin for one in backgrounds.instances] == [name.removeprefix("coco/") for name in sizes]


boxes = st.lists(st.tuples(*[st.integers(0, 200)] * 4), max_size=6)


@given(boxes, st.integers(128, 400), st.integers(128, 400))
def test_a_free_crop_meets_no_box_and_none_has_a_longer_short_side(found, width: int, height: int) -> None:
    """Compared with all rectangles whose edges are those of boxes or of the picture."""
    placed = np.array([(x, y, x + w + 1, y + h + 1) for x, y, w, h in found], np.int64).reshape(-1, 4)
    margin = 4
    crop = free_crop(np.array([width, height]), placed)
    grown = [(x0 - margin, y0 - margin, x1 + margin, y1 + margin) for x0, y0, x1, y1 in placed.tolist()]

    def free(x0: int, y0: int, x1: int, y1: int) -> bool:
        return all(x1 <= a or c <= x0 or y1 <= b or d <= y0 for a, b, c, d in grown)

    xs = sorted({0, width, *(min(max(x, 0), width) for a, _, c, _ in grown for x in (a, c))})
    ys = sorted({0, height, *(min(max(y, 0), height) for _, b, _, d in grown for y in (b, d))})
    best = max(
        (min(x1 - x0, y1 - y0) for x0 in xs for x1 in xs if x1 > x0 for y0 in ys for y1 in ys if y1 > y0 and free(x0, y0, x1, y1)),
        default=0,
    )  # fmt: skip
    if crop is None:
        assert best < 128
    else:
        assert free(*crop) and min(crop[2] - crop[0], crop[3] - crop[1]) == best
        assert min(crop) >= 0 and crop[2] <= width and crop[3] <= height
