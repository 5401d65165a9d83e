"""The division of collections: no original on two sides but those reported, every class in training and test."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.scenes.collections import Instance, Split
from shards.scenes.split import SPLITS, Division, divide

PHOTOGRAPHS = [f"photograph-{k}" for k in range(12)]


@dataclass(frozen=True)
class Listed:
    """A collection of nothing but names."""

    instances: tuple[Instance, ...]

    def read(self, *asked: Any) -> Any:
        raise AssertionError("a division reads no file")

    def identity(self) -> dict[str, Any]:
        return {}


def listed(named: list[tuple[str, str]]) -> Listed:
    """Instances of (class, origin), named by their place."""
    return Listed(tuple(Instance(name, f"{k:04d}", origin) for k, (name, origin) in enumerate(named)))


def pairs(classes: str, origins: list[str]) -> st.SearchStrategy[Listed]:
    one = st.tuples(st.sampled_from(classes), st.sampled_from(origins))
    return st.lists(one, max_size=40).map(listed)


backgrounds = st.lists(st.sampled_from(PHOTOGRAPHS), max_size=12).map(
    lambda all: listed([("", one) for one in all])
)
collections = (pairs("abcde", PHOTOGRAPHS), pairs("abcd_", [f"recording-{k}" for k in range(9)]), backgrounds)


def by_class(instances: Any) -> dict[str, set[str]]:
    found = defaultdict(set)
    for one in instances:
        found[one.class_name].add(one.origin)
    return found


@given(*collections)
def test_no_original_is_on_two_sides_but_those_reported(
    pictures: Listed, sounds: Listed, behind: Listed
) -> None:
    """Photographs that are cut from and pasted on are one kind of original."""
    division = divide(pictures, sounds, behind)
    for kinds, seen in (
        (("pictures", "backgrounds"), division.seen_pictures),
        (("sounds",), division.seen_sounds),
    ):
        reported = {tuple(one) for one in seen}
        where = defaultdict(set)
        for split in SPLITS:
            for kind in kinds:
                for one in getattr(division[split], kind):
                    if (one.class_name, one.origin) not in reported:
                        where[one.origin].add(split)
        assert all(len(splits) == 1 for splits in where.values())


@given(*collections)
def test_every_instance_is_somewhere_and_every_class_in_training_and_test(
    pictures: Listed, sounds: Listed, behind: Listed
) -> None:
    division = divide(pictures, sounds, behind)
    for kind, collection in (("pictures", pictures), ("sounds", sounds), ("backgrounds", behind)):
        sides = {split: getattr(division[split], kind) for split in SPLITS}
        assert {one for side in sides.values() for one in side} == set(collection.instances)
        for split in SPLITS:
            names = [one.name for one in sides[split]]
            assert names == sorted(names) and len(set(names)) == len(names)
        for class_name, origins in by_class(collection.instances).items():
            there = {split for split in SPLITS if class_name in by_class(sides[split])}
            needed = set(SPLITS) if len(origins) != 2 or kind == "backgrounds" else {"train", "test"}
            assert needed <= there


@given(*collections)
def test_classes_that_share_no_photograph_need_report_nothing_but_the_only_one(
    pictures, sounds, behind
) -> None:
    """Recordings have one class each here, as they do in life; then what is reported is the only one of a class."""
    own = listed([(one.class_name, f"{one.class_name}/{one.origin}") for one in sounds.instances])
    division = divide(pictures, own, behind)
    alone = {name for name, origins in by_class(own.instances).items() if len(origins) == 1}
    assert {one.class_name for one in division.seen_sounds} == alone


@given(*collections, st.randoms())
def test_a_division_hangs_on_names_alone(
    pictures: Listed, sounds: Listed, behind: Listed, random: Any
) -> None:
    def shuffled(listed: Listed) -> Listed:
        return Listed(tuple(random.sample(listed.instances, len(listed.instances))))

    one, other = (
        divide(pictures, sounds, behind),
        divide(shuffled(pictures), shuffled(sounds), shuffled(behind)),
    )
    for split in SPLITS:
        for kind in ("pictures", "sounds", "backgrounds"):
            assert set(getattr(one[split], kind)) == set(getattr(other[split], kind))
    assert (one.seen_pictures, one.seen_sounds) == (other.seen_pictures, other.seen_sounds)


def test_shares_are_kept_and_seeds_draw_anew() -> None:
    """Of 100 recordings of each of three classes exactly 60, 15 and 25, for there is nothing in their way."""
    sounds = listed([(name, f"{name}{k}") for name in "abc" for k in range(100)])
    nothing = listed([])

    def share(division: Division, split: Split) -> list[int]:
        return [len(origins) for origins in by_class(division[split].sounds).values()]

    one, other = divide(nothing, sounds, nothing), divide(nothing, sounds, nothing, seed=1)
    for division in (one, other):
        assert [share(division, split) for split in SPLITS] == [
            [60] * 3,
            [15] * 3,
            [25] * 3,
        ]
    assert set(one["test"].sounds) != set(other["test"].sounds)


@pytest.mark.parametrize(
    ("count", "sides"), [(1, (1, 1, 1)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 1, 3))]
)
def test_few_originals_go_to_training_then_to_test_then_to_validation(
    count: int, sides: tuple[int, ...]
) -> None:
    sounds = listed([("dog", f"recording-{k}") for k in range(count)])
    division = divide(listed([]), sounds, listed([]))
    assert tuple(len(division[split].sounds) for split in SPLITS) == sides
