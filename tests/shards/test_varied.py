"""Real pictures and recordings: what `varied` and Debian's packages hold can be used, and is of many classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shards.scenes.specs import open_backgrounds, open_pictures, open_sounds
from shards.sources import debian
from tests.launch.tiny import cacl


@pytest.fixture(scope="module")
def varied(varied_dir: Path) -> tuple[str, ...]:
    """The spec of everything; skips where the packages cannot be fetched."""
    try:
        open_pictures(("varied",)), open_backgrounds(("varied",))
    except debian.Unavailable:
        pytest.skip("Debian's packages cannot be had")
    return ("varied",)


def test_every_file_of_it_can_be_used(varied: tuple[str, ...]) -> None:
    for one in (pictures := open_pictures(varied)).instances:
        picture = pictures.read(one)
        alpha = picture[..., 3]
        assert max(picture.shape[:2]) <= 512 and alpha[[0, -1]].any() and alpha[:, [0, -1]].any(), one
    for one in (backgrounds := open_backgrounds(varied)).instances:
        assert 100 < min(backgrounds.read(one).shape[:2]) <= 448, one
    for one in (sounds := open_sounds(varied)).instances:
        heard = sounds.read(one, 16000)
        assert np.isfinite(heard).all() and np.abs(heard).max() <= 1 and len(heard) >= 100, one


def test_twenty_classes_have_three_originals_of_each(varied: tuple[str, ...]) -> None:
    """On Debian 12; Debian 13 has fewer of the packages."""
    answer = cacl(
        "scenes", "classes", "--objects", "varied", "--sounds", "varied", "--backgrounds", "varied", "--json"
    )
    assert answer.returncode == 0, answer.stderr
    table = json.loads(answer.stdout)
    both = {name: one for name, one in table["classes"].items() if not one["missing"]}
    full = {
        name
        for name, one in both.items()
        if min(one[side]["origins"] for side in ("pictures", "recordings")) >= 3
    }
    assert (
        len(both) >= 70 and {"bird", "cat", "clock", "cow", "dog", "frog", "lion", "person", "sheep"} <= full
    )
    assert len(full) >= (
        20 if any(one.name.startswith("scratch/") for one in open_pictures(varied).instances) else 15
    )
    for name in full:
        for side in ("pictures", "recordings"):
            assert not both[name][side]["seen"] and all(both[name][side]["sides"].values()), name
    assert all(table["backgrounds"]["sides"].values())


def test_cut_outs_and_backgrounds_of_one_photograph_meet(varied: tuple[str, ...]) -> None:
    """The folder's cut-outs name COCO's photographs, which are among the backgrounds."""
    cut = {one.origin for one in open_pictures(varied).instances}
    assert len(cut & {one.origin for one in open_backgrounds(varied).instances}) > 20
