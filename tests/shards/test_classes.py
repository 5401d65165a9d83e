"""The table of classes: each name means one class, and both sides meet in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.scenes.classes import are_kin, class_of, class_table, plain
from shards.scenes.packages import _rows


def test_a_class_is_there_once_and_its_kin_too() -> None:
    names = [row.name for row in class_table()]
    assert names == sorted(set(names)) and names == [plain(name) for name in names]
    assert {row.kin for row in class_table()} - {""} <= set(names)


@pytest.mark.parametrize("naming", ["coco", "esc50", "vggsound", "names"])
def test_a_name_of_a_set_means_one_class(naming) -> None:
    listed = [(name, row.name) for row in class_table() for name in getattr(row, naming)]
    assert len({plain(name) for name, _ in listed}) == len(listed)
    for name, class_name in listed:
        assert class_of(name, naming) == class_name
        assert naming != "names" or name not in {row.name for row in class_table()}


def test_folders_have_names_of_classes_first_then_those_of_folders_and_sets() -> None:
    assert class_of("Dog") == "dog" and class_of("dog barking") == "dog"
    assert class_of("mouse") == "mouse" and class_of("mouse", "coco") == "computer_mouse"
    assert class_of("_Rain") == class_of("rain", "esc50") == "_rain"
    assert class_of("Mein Ding-2") == "mein_ding_2" and class_of("_Meine Halle") == "_meine_halle"


def test_all_of_esc_50_is_in_the_table() -> None:
    """Fifty classes, ten of each kind; those that are heard and never seen begin with `_`."""
    found = [name for row in class_table() for name in row.esc50]
    assert len(found) == len(set(found)) == 50
    assert {"_rain", "_sea", "_fire", "_wind", "_thunder"} <= {class_of(name, "esc50") for name in found}


def test_names_of_vggsound_are_those_of_its_annotations(lists_dir: Path) -> None:
    """VGG-SS has 220 of VGGSound's 309 classes; the table has most of them, spelled alike."""
    theirs = {entry["class"] for entry in json.loads((lists_dir / "vggss.json").read_text())}
    ours = {name for row in class_table() for name in row.vggsound}
    assert len(theirs & ours) > 150
    near = {plain(name): name for name in theirs}
    assert not [name for name in ours - theirs if plain(name) in near]


def test_what_may_be_taken_for_each_other_is_kin() -> None:
    assert are_kin("crow", "bird") and are_kin("crow", "owl") and are_kin("dog", "dog")
    assert not are_kin("dog", "cat") and not are_kin("own", "dog") and are_kin("own", "own")


def test_what_packages_hold_is_of_classes_of_the_table() -> None:
    assert {row.class_name for row in _rows()} - {""} <= {row.name for row in class_table()}
