"""Heat on a fixed scale: what is above θ and no more, the same numbers as the slow form, in bytes alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cacl.evaluation.upsampling import upsample_by_interpolation
from cacl.viewing import heat
from cacl.viewing.film_writer import Sound
from cacl.viewing.heat import HeatPainter, Scale
from cacl.viewing.strip import Strip, strip_height, waveform
from tests.shards.films import film

SCALE = Scale(0.0, 0.4, 0.8)


def bump(value=0.7):
    """A map with one round place, high at the cell (3, 2)."""
    y, x = np.mgrid[:7, :7]
    return (value * np.exp(-((y - 3) ** 2 + (x - 2) ** 2) / 3)).astype(np.float32)


def picture(height=120, width=200):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_values_are_those_that_theta_is_compared_with():
    values = HeatPainter(SCALE, (224, 224)).values(bump())
    whole = upsample_by_interpolation(torch.from_numpy(bump())[None], 224, "bicubic")[0]
    np.testing.assert_allclose(values, whole, atol=1e-5)


def test_heat_is_drawn_above_theta_alone_and_below_it_the_picture_is_as_it_was():
    painter = HeatPainter(SCALE, (120, 200))
    before = picture()
    drawn, seen = painter.paint(before, bump())
    above = painter.values(bump()) > 0.4
    assert seen.sounds and seen.value == pytest.approx(painter.values(bump()).max())
    lines = ndimage.binary_dilation(above, np.ones((3, 3)), iterations=2)
    np.testing.assert_array_equal(drawn[~lines], before[~lines])
    assert (drawn[ndimage.binary_dilation(above, np.ones((3, 3))) & ~above] == 255).all(), (
        "the outline is white"
    )
    y, x = np.nonzero(above)
    ring = np.hypot(y - seen.point[1], x - seen.point[0]) < painter._ring.shape[0]
    inside = y[~ring], x[~ring]
    assert len(inside[0])
    steps = SCALE.steps(painter.values(bump()))[inside]
    alpha = np.interp(steps, [0, 255], heat._ALPHA)[:, None]
    expected = before[inside] * (1 - alpha) + heat.colors(256)[steps] * alpha
    np.testing.assert_allclose(drawn[inside], expected, atol=2)


def test_where_nothing_is_above_theta_only_the_words_are_drawn():
    painter, before = HeatPainter(SCALE, (120, 200)), picture()
    drawn, seen = painter.paint(before, bump(0.39))
    changed = (drawn != before).any(2)
    assert seen.sounds is False and changed.any()
    words = heat.pill(heat.WORDS, 11).shape
    assert not changed[6 + words[0] :].any() and not changed[:, 6 + words[1] :].any()


def test_colors_mean_the_same_whatever_the_map_holds():
    """A scale of the model, and none of the frame: the same value has the same color in every map."""
    low, high = (SCALE.steps(np.array([0.5, top], np.float32)) for top in (0.55, 0.95))
    assert low[0] == high[0] and high[1] == 255
    assert SCALE.steps(np.array([0.4, 0.4001], np.float32)).tolist() == [0, 1]
    assert Scale(0.0, None, 1.0).steps(np.array([-0.2, 0.0, 0.5, 1.0], np.float32)).tolist() == [
        0,
        0,
        127,
        255,
    ]
    assert Scale(0.0, 0.9, 0.5).end > 0.9, "a scale that was fitted badly has an extent still"


def test_without_a_theta_no_area_is_claimed():
    drawn, seen = HeatPainter(Scale(0.0, None, 1.0), (120, 200)).paint(picture() // 2, bump())
    assert seen.sounds is None
    assert (drawn == 255).all(2).sum() < 100, "no outline; white is the ring alone"


def test_the_peak_at_a_corner_is_drawn_as_far_as_it_is_in_the_picture():
    corner = np.zeros((7, 7), np.float32)
    corner[0, 0] = 0.9
    drawn, seen = HeatPainter(SCALE, (120, 200)).paint(picture(), corner)
    assert drawn.shape == (120, 200, 3) and seen.point[0] < 30 and seen.point[1] < 20


def test_the_strip_shows_the_sound_and_a_cursor_that_moves(tmp_path):
    loud = np.zeros(16000 * 4, np.float32)
    loud[16000:32000] = 0.5 * np.sin(np.arange(16000) / 5)
    path = film(tmp_path / "in.mp4", seconds=4, audio=loud)
    page = next(waveform(Sound(path), 4.0, 400))
    heights = np.abs(page).max(1)
    assert heights[110:190].min() > 0.3 and heights[:90].max() < 0.05 and heights[210:].max() < 0.05
    strip = Strip(SCALE, (360, 640), Sound(path), heard=3.0, seconds=4.0)
    first, later = strip.draw(0.5, 0.1), strip.draw(2.5, 0.7)
    assert first.shape == later.shape == (strip_height((360, 640)), 640, 3)
    cursors = [int(np.flatnonzero((one[3:-3] == 255).all((0, 2)))[0]) for one in (first, later)]
    assert cursors[1] - cursors[0] == pytest.approx(2 / 4 * strip._columns, abs=1)
    marks = [int(np.flatnonzero((one[:16, :180] == 255).all(2).any(0)).mean()) for one in (first, later)]
    assert marks[1] > marks[0], "the mark on the color bar follows the map's peak"


def test_a_long_film_turns_its_pages(tmp_path):
    path = film(tmp_path / "in.mp4", seconds=3)
    strip = Strip(SCALE, (360, 640), Sound(path), heard=0.5, seconds=None)
    strip.page = 1.0
    strip._pages = waveform(Sound(path), 1.0, strip._columns)
    places = [int(np.flatnonzero((strip.draw(t, 0.1)[3:-3] == 255).all((0, 2)))[0]) for t in (0.9, 1.1, 2.9)]
    assert places[1] < places[0] and places[2] == places[0]
