"""`cacl scenes classes`: what there is of each class, and which side is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.jobs.scenes import Amount, count_classes
from tests.launch.tiny import cacl
from tests.shards import collected


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    objects = collected.cut_outs(tmp_path / "objects", {"dog": 5, "cat": 1, "vase": 2})
    (objects / "origins.csv").write_text("file,origin\ndog/0.png,A\ndog/1.png,A\n")
    sounds = collected.recordings(tmp_path / "sounds", {"dog": 3, "cat": 2, "_rain": 4})
    return ["--objects", str(objects), "--sounds", str(sounds)]


def test_the_table_counts_pictures_and_recordings_of_each_side(words: list[str], tmp_path: Path) -> None:
    behind = str(collected.photographs(tmp_path / "photographs", 3))
    table = count_classes((words[1],), (words[3],), (behind,))
    found = {one.class_name: one for one in table.classes}
    assert list(found) == ["_rain", "cat", "dog", "vase"]
    dog = found["dog"]
    assert (dog.pictures.instances, dog.pictures.origins) == (5, 4) and not dog.pictures.seen
    assert sum(dog.pictures.sides.values()) == 5 and min(dog.pictures.sides.values()) >= 1
    assert dog.recordings == Amount(3, 3, {"train": 1, "validation": 1, "test": 1}, False)
    assert found["cat"].pictures == Amount(1, 1, {"train": 1, "validation": 1, "test": 1}, True)
    assert [one.missing for one in table.classes] == ["pictures", "", "", "recordings"]
    assert table.backgrounds == Amount(3, 3, {"train": 1, "validation": 1, "test": 1}, False)


def test_the_verb_prints_the_table(words: list[str]) -> None:
    answer = cacl("scenes", "classes", *words)
    assert answer.returncode == 0, answer.stderr
    rows = {line.split()[0]: line.split()[1:] for line in answer.stdout.splitlines() if line}
    assert rows["_rain"][-2:] == ["heard", "only"] and rows["vase"][-2:] == ["no", "recordings"]
    assert rows["dog"] == ["5", "4", rows["dog"][2], "3", "3", "1/1/1"]
    assert rows["cat"][2] == "1/1/1*"
    assert "2 classes have pictures and recordings, 1 of them three originals of each" in answer.stdout


def test_the_verb_prints_json(words: list[str]) -> None:
    table = json.loads(cacl("scenes", "classes", *words, "--json").stdout)
    assert set(table["classes"]) == {"_rain", "cat", "dog", "vase"}
    assert table["classes"]["vase"]["missing"] == "recordings"
    assert table["classes"]["dog"]["pictures"]["instances"] == 5
    assert table["backgrounds"]["instances"] == 0


def test_bad_input_is_one_sentence(words: list[str]) -> None:
    answer = cacl("scenes", "classes", "--objects", "nowhere", *words[2:])
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
    assert "--objects nowhere: is not a folder" in answer.stderr
