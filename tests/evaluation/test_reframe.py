"""A crop that follows what sounds: never faster than allowed, still in silence, and as good as any such way."""

import itertools

import av
import numpy as np
import pytest

from cacl.annotation import Box
from cacl.viewing.film import Part, frames
from cacl.viewing.film_writer import Sound
from cacl.viewing.reframe import (
    _AWAY,
    _MOVING,
    SPEED,
    Crop,
    Target,
    box_targets,
    crop_of,
    plan,
    targets_of,
    write_reframed,
)
from cacl.viewing.tracks import Moment
from shards.scenes.films import FRAME_RATE, HEIGHT, WIDTH, draw_turns, stage
from tests.shards.films import film


def targets_at(places, gap=0.2, weight=1.0):
    return [Target(k * gap, low, low + 0.1, weight if low >= 0 else 0.0) for k, low in enumerate(places)]


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        ((360, 640), (9, 16), Crop(202, 360, True)),
        ((640, 360), (1, 1), Crop(360, 360, False)),
        ((360, 640), (16, 9), Crop(640, 360, True)),
        ((271, 481), (1, 1), Crop(270, 270, True)),
    ],
)
def test_a_crop_is_the_largest_of_its_shape_with_even_sides(size, shape, expected):
    assert crop_of(size, shape) == expected


def test_it_moves_no_faster_than_allowed_and_not_at_all_while_nothing_sounds():
    random = np.random.default_rng(0)
    places = np.where(random.random(200) < 0.3, -1, random.uniform(0, 0.9, 200))
    targets = targets_at(places)
    way = plan(targets, 0.3)
    assert np.abs(np.diff(way)).max() <= SPEED * 0.2 + 1e-9 and np.abs(np.diff(way)).max() > 0
    assert way.min() >= 0 and way.max() <= 0.7 + 1e-9
    for k in range(199):
        if places[k] < 0 or places[k + 1] < 0:
            assert way[k] == way[k + 1]


def test_what_stands_still_is_held_without_a_move_and_what_comes_is_met_in_time():
    assert np.ptp(plan(targets_at([0.6] * 40), 0.3)) == 0
    # What sounds from 4 s on is not in the crop that has the first in its middle: it must have moved before.
    places = [0.3] * 20 + [0.45] * 20
    way = plan(targets_at(places), 0.3)
    inside = [at <= low and low + 0.1 <= at + 0.3 + 2e-3 for at, low in zip(way, places, strict=True)]
    assert all(inside)


def test_no_way_on_a_coarse_grid_is_better():
    """Against all ways that are allowed, in a case small enough to try them all."""
    places, share, speed, gap = [0.0, 0.5, 0.55, 0.2], 0.4, 0.5, 0.4
    targets = targets_at(places, gap)

    def cost(way):
        seen = [
            max(0.0, min(low + 0.1, at + share) - max(low, at)) / 0.1
            for at, low in zip(way, places, strict=True)
        ]
        away = sum(abs(at + share / 2 - low - 0.05) for at, low in zip(way, places, strict=True))
        moved = sum(abs(a - b) for a, b in itertools.pairwise(way))
        return len(seen) - sum(seen) + _AWAY * away + _MOVING * moved

    grid = np.linspace(0, 0.6, 21)
    allowed = speed * gap + 1e-9
    ways = (
        way
        for way in itertools.product(grid, repeat=4)
        if max(abs(a - b) for a, b in itertools.pairwise(way)) <= allowed
    )
    assert cost(plan(targets, share, speed)) <= min(map(cost, ways)) + 1e-9


def test_a_crop_follows_boxes_or_points_where_there_is_no_theta():
    one = Moment(1.0, 25, True, (0.5, 0.3), 0.6, 0.8, (0.4, 0.2, 0.7, 0.5))
    quiet, unknown = Moment(1.2, 30, False, (0.1, 0.1), 0.1, 0.1), Moment(1.4, 35, None, (0.2, 0.9), 0.4, 0.5)
    assert targets_of([one, quiet, unknown], across=True) == [
        Target(1.0, 0.4, 0.7, 0.8), Target(1.2, 0.1, 0.1, 0.0), Target(1.4, 0.2, 0.2, 0.5),
    ]  # fmt: skip
    assert targets_of([one], across=False) == [Target(1.0, 0.2, 0.5, 0.8)]


def test_the_film_is_cut_where_the_way_says_and_keeps_its_sound_and_times(tmp_path):
    source, out = film(tmp_path / "in.mp4", size=(96, 64), seconds=2), tmp_path / "out.mp4"
    crop = crop_of((64, 96), (1, 1))
    write_reframed(source, out, Sound(source), Part(), [0.0, 2.0], np.array([0.0, 1 / 3]), crop)
    with av.open(str(out)) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (64, 64)
        assert [frame.time for frame in made.decode(video=0)] == pytest.approx(
            [time for time, _ in frames(source)], abs=1e-4
        )
        assert made.streams.audio


def scene(seed, seconds=12):
    """Boxes of what is heard in each frame of a film of scenes, None where nothing is; nothing is painted."""
    random = np.random.default_rng(seed)
    frames = seconds * FRAME_RATE
    pictures = [np.full((90, 120, 4), 255, np.uint8) for _ in range(random.integers(1, 4))]
    turns = draw_turns(random, len(pictures), seconds, silence=0.2)
    background = random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    _, moving = stage(random, background, pictures, frames)
    boxes: list[Box | None] = []
    for k in range(frames):
        who = next((one.who for one in turns if one.start <= k / FRAME_RATE < one.end), None)
        if who is None:
            boxes.append(None)
            continue
        (x, y), (high, wide) = moving[who].path[k], moving[who].fitted.shape[:2]
        boxes.append((x / WIDTH, y / HEIGHT, (x + wide) / WIDTH, (y + high) / HEIGHT))
    return boxes


def share_inside(boxes, shape):
    """How much of the time in which a film sounds the box's middle is in the crop."""
    times = [k / FRAME_RATE for k in range(len(boxes))]
    crop = crop_of((HEIGHT, WIDTH), shape)
    share = crop.share((HEIGHT, WIDTH))
    way = np.interp(times, times[::5], plan(box_targets(times[::5], boxes[::5], crop.across), share))
    middles = [(at, (box[0] + box[2]) / 2) for at, box in zip(way, boxes, strict=True) if box]
    return float(np.mean([at <= middle <= at + share for at, middle in middles]))


def test_on_films_of_scenes_what_sounds_stays_in_the_crop():
    """Objects run up to a fifth of the width a second there, four times as fast as the crop may, and take turns.

    No way of an upright crop can do what that of a square one does: `plan` finds the best there is.
    """
    films = [scene(seed) for seed in range(30)]
    assert np.mean([share_inside(one, (1, 1)) for one in films]) >= 0.95
    assert np.mean([share_inside(one, (9, 16)) for one in films]) >= 0.7
