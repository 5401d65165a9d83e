"""AVATAR: the annotated frames of a film are clips that share it (promise 14), on screen or off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.sources.avatar import Avatar
from tests.shards.sets import (
    STORAGE,
    avatar,
    hears,
    refused,
    whole,
)


@pytest.mark.parametrize("films", [True, False])
def test_frames_of_avatar_know_scenario_polygons_and_moment(tmp_path: Path, films: bool) -> None:
    source = Avatar(root=avatar(tmp_path, films=films), frame_rate=0.0 if films else 25.0, storage=STORAGE)
    assert source.ids() == ["abcdefghijk_00030/00050", "abcdefghijk_00030/00100"]
    two, away = (whole(source.read(id)) for id in source.ids())
    dog, cat = two.sources or ()
    assert dog == SoundSource("dog", ((0, 0, 101 / 400, 1),)), "PIL's polygons hold their edges"
    assert cat.class_name == "cat" and cat.boxes == ((0.5, 0, 1, 1),)
    assert two.annotation.mask is not None and two.annotation.mask.mean() == pytest.approx(0.5, abs=0.02)
    assert (two.tags, away.tags) == (("multi-entity",), ("off-screen",))
    assert away.sources == (SoundSource("dog", (), visible=False),) and away.annotation.boxes == []
    assert (two.time, away.time) == (2.0, 4.0) and {two.film, away.film} == {"abcdefghijk_00030"}
    assert hears(two, 0.5) == pytest.approx(1.0, abs=0.05) and hears(away, 0.5) == pytest.approx(
        3.0, abs=0.05
    )
    assert source.group(source.ids()[0]) == source.group(source.ids()[1])


def test_frame_numbers_without_films_ask_for_a_rate(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no films in video/ .*; say it with --frame-rate, such as 30"):
        Avatar(root=avatar(tmp_path, films=False)).ids()


NOTES: dict[str, tuple[dict[str, Any] | str, str]] = {
    "no json": ("{", "it is no JSON"),
    "no size": ({"annotations": [{}]}, "original_width, original_height: (None, None)"),
    "a size of a giant": ({"original_width": 10**6, "original_height": 10**6}, "original_width, original_height"),
    "no annotations": ({"original_width": 9, "original_height": 9, "annotations": 3}, "annotations: 3"),
    "two corners": ({"original_width": 9, "original_height": 9, "annotations": [{"segmentation": [[0, 0, 1, 1]]}]},
                    "segmentation: [0, 0, 1, 1] is no polygon"),
    "a task": ({"original_width": 9, "original_height": 9, "annotations": [{"task": 3}]}, "task: expected text, got 3"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOTES)
def test_a_malformed_frame_of_avatar_is_rejected_and_named(tmp_path: Path, kind: str) -> None:
    note, sentence = NOTES[kind]
    root = avatar(tmp_path, films=False)
    path = root / "metadata/abcdefghijk_00030/00050.json"
    path.write_text(note if isinstance(note, str) else json.dumps(note))
    source = Avatar(root=root, frame_rate=25.0, storage=STORAGE)
    reason = refused(source.read("abcdefghijk_00030/00050"))
    assert reason.startswith("metadata/abcdefghijk_00030/00050.json: malformed annotation: ")
    assert sentence in reason
    assert whole(source.read("abcdefghijk_00030/00100")).tags == ("off-screen",)
