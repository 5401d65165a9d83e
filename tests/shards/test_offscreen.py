"""Sounds of something off-screen: drawn by seed, clip and repetition, never what the frame may show."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from shards.offscreen import OffScreen, groups


def clip(number, *classes, **more):
    return Annotation(f"c{number}", number, tuple(SoundSource(name) for name in classes), **more)


def drawn(off_screen, index, seed=0, times=40):
    return [next(off_screen.candidates(seed, index, k)) for k in range(times)]


def test_the_table_has_a_group_for_every_class_of_vggsound(real_dir):
    with (real_dir / "lists" / "vggsound_test.csv").open(newline="") as file:
        classes = {row[1] for row in csv.reader(file)}
    assert classes == groups().keys() and len(classes) == 309
    counts = Counter(groups().values())
    assert len(counts) == 9 and min(counts.values()) > 9


def test_classes_decide_by_their_groups_where_every_clip_has_one():
    """A frame's silent objects are in view too; a dog's frame hears no cat, for both are animals."""
    notes = [
        clip(0, "dog barking"),
        clip(1, "cat meowing"),
        clip(2, "playing piano"),
        Annotation("c3", 3, (SoundSource("playing flute"), SoundSource("dog growling", audible=False))),
        clip(4, "a thing of mine"),
    ]
    off_screen = OffScreen(np.arange(5) * 10, notes, labels=np.zeros(5, np.int64))
    assert off_screen.by == "group"
    assert set(drawn(off_screen, 0)) == {20, 30, 40}
    assert set(drawn(off_screen, 20)) == {0, 10, 40}
    assert set(drawn(off_screen, 30)) == {40}
    assert set(drawn(off_screen, 40)) == {0, 10, 20, 30}


def test_without_classes_labels_decide_and_without_those_any_other_clip_is_heard():
    notes = [clip(k, "") for k in range(4)]
    labels = np.array([0, 0, 1, -1])
    by_label = OffScreen(np.arange(4), notes, labels)
    assert by_label.by == "label"
    assert [set(drawn(by_label, index)) for index in range(4)] == [{2}, {2}, {0, 1}, {0, 1, 2}]
    anyone = OffScreen(np.arange(4), notes)
    assert anyone.by == "any"
    assert set(drawn(anyone, 1)) == {0, 2, 3}


def test_a_clip_of_the_same_film_or_picture_and_one_in_which_nothing_sounds_are_never_heard():
    notes = [clip(0, "", film="a"), clip(1, "", film="a"), clip(2, "", image="p"), clip(3, "", image="p")]
    notes.append(Annotation("c4", 4, ()))
    off_screen = OffScreen(np.arange(5), notes)
    assert set(drawn(off_screen, 0)) == {2, 3} and set(drawn(off_screen, 3)) == {0, 1}
    assert set(drawn(off_screen, 4)) == {0, 1, 2, 3}
    # The others stand in for one that cannot be decoded, and all of them do.
    assert set(off_screen.candidates(0, 2, 0)) == {0, 1}


def test_a_draw_hangs_on_seed_clip_and_repetition_and_all_are_drawn_alike():
    off_screen = OffScreen(np.arange(30), [clip(k, "") for k in range(30)])
    first = drawn(off_screen, 3, times=600)
    again = OffScreen(np.arange(30), [clip(k, "") for k in range(30)])
    assert drawn(again, 7)[:5] != first[:5] and drawn(again, 3, times=600) == first
    assert drawn(again, 3, seed=1)[:5] != first[:5]
    counts = Counter(first)
    assert set(counts) == set(range(30)) - {3}
    assert max(counts.values()) < 3 * 600 / 29  # one in 1e9 by chance


def test_a_set_of_one_class_is_one_clear_sentence():
    off_screen = OffScreen(np.arange(3), [clip(k, "dog barking") for k in range(3)])
    with pytest.raises(UserError, match="clip 1: no other clip's sound is off-screen"):
        list(islice(off_screen.candidates(0, 1, 0), 1))
