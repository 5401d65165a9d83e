"""A sheet of packed clips shows frames and what is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from cacl.viewing.sheet import CAPTION, HEARD, SILENT, TILE, draw_sheet
from launch.jobs.shards import draw_shards
from launch.main import main
from shards.store import open_store

VERSION_1 = Path(__file__).parent / "version_1" / "generated"


def shown(sources: tuple[SoundSource, ...] | None) -> np.ndarray:
    frame = Image.new("RGB", (64, 64), (10, 20, 30))
    return np.asarray(draw_sheet([(frame, Annotation("a", sources=sources))]))


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == color).all(axis=2).sum())


def test_what_is_heard_is_orange_and_what_is_silent_is_blue():
    box = ((0.25, 0.25, 0.75, 0.75),)
    heard, silent = SoundSource("dog", box), SoundSource("cat", box, audible=False)
    # A frame of two pixels about 112 × 112.
    assert count(shown((heard,)), HEARD) == pytest.approx(4 * 112 * 2, abs=20)
    assert count(shown((heard,)), SILENT) == 0 < count(shown((silent,)), SILENT)
    both = shown((heard, silent))
    assert count(both, HEARD) == count(shown((heard,)), HEARD), "nothing lies over what is heard"


def test_a_mask_is_outlined_where_there_is_one():
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    outline = count(shown((SoundSource("dog", ((0.25, 0.25, 0.75, 0.75),), mask),)), HEARD)
    assert outline == pytest.approx(4 * 112, rel=0.05)


def test_what_has_no_place_is_named_below():
    plain = shown(())
    away = shown((SoundSource("dog", (), visible=False),))
    assert (plain[:TILE] == away[:TILE]).all() and (plain[TILE:] != away[TILE:]).any()
    assert plain.shape == (TILE + CAPTION, TILE, 3)


def test_the_command_writes_a_sheet_of_packed_clips(tmp_path, capsys):
    assert main(["shards", "sheet", str(VERSION_1), "--out", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == len(open_store(VERSION_1).indices) * TILE
    assert "orange is heard" in capsys.readouterr().out
    with pytest.raises(UserError, match="is no name of a picture"):
        draw_shards(VERSION_1, tmp_path / "sheet.nothing")
