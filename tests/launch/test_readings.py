"""Promises 10 and 12: a recipe's values are read as a person means them, in bounded time, memory and words."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc

import pytest

import cacl as library
from cacl.errors import UserError, brief
from cacl.runs.strict_yaml import parse_value, parse_yaml
from launch.config import complete_recipe, load_recipe, override


def load(tmp_path, text, *overrides):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, list(overrides))


@pytest.mark.parametrize(
    "value",
    [
        "010",
        "080",
        "00",
        "-010",
        "0o17",
        "0x1F",
        "0b11",
        "1:30",
        "1:30:00",
        "1_000",
        "yes",
        "No",
        "ON",
        "off",
    ],
)
@pytest.mark.parametrize(
    "place", ["data: {{train: x}}\ntraining: {{epochs: {0}}}", "data:\n  train: {0}\n", "{0}: 1"]
)
def test_what_could_be_read_in_two_ways_is_refused_with_how_to_write_it(tmp_path, value, place):
    with pytest.raises(UserError, match=rf"line \d: not YAML: {value} .*write .* or '{value}' as text"):
        load(tmp_path, place.format(value))
    with pytest.raises(UserError, match=rf"^--training.epochs {value}: {value} .*write"):
        override({}, ["--training.epochs", value])
    assert parse_yaml(f"a: '{value}'", "r") == {"a": value}, "text in quotes is text"


@pytest.mark.parametrize(
    "value", ["true", "'010'", "'1_000'", "'1e'", "'0x10'", "9223372036854775808", "' '"]
)
def test_a_number_is_never_made_of_what_is_none(tmp_path, value):
    with pytest.raises(UserError, match=r"training\.epochs: .*got"):
        load(tmp_path, f"data: {{train: x}}\ntraining: {{epochs: {value}}}")
    with pytest.raises(UserError, match=r"optimizer\.rates\.image.*: .*got"):
        load(tmp_path, "data: {train: x}\noptimizer: {name: adamw, rates: {image: true}}")


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e999", "inf", "nan", "'-Infinity'"])
@pytest.mark.parametrize(
    "key",
    [
        "data.augmentation.duration",
        "loss.temperature",
        "optimizer.learning_rate",
        "training.distributed_timeout",
    ],
)
def test_no_number_of_a_recipe_is_infinite(tmp_path, key, number):
    with pytest.raises(UserError, match=f"{key}: .*finite number"):
        load(tmp_path, "data: {train: x}", f"--{key}", number)


def test_no_timeout_is_longer_than_timers_are(tmp_path):
    with pytest.raises(UserError, match=r"training\.distributed_timeout: 1e\+300 s is more than 30 days"):
        load(tmp_path, "data: {train: x}", "--training.distributed-timeout", "1e300")


def test_numbers_as_people_write_them_stay_numbers(tmp_path):
    read = load(
        tmp_path,
        "data: {train: x}\noptimizer: {name: adamw, learning_rate: '1e-3'}",
        "--training.epochs",
        "+7",
    )
    assert (read.optimizer.learning_rate, read.training.epochs) == (1e-3, 7)
    for text, value in (("3", 3), ("-2", -2), ("0", 0), ("1e-3", "1e-3"), (".5", 0.5), ("true", True), ("null", None),
                        ("~", None), ("", None), ("[1, a]", [1, "a"]), ("{name: max}", {"name": "max"})):  # fmt: skip
        assert parse_value(text, "x") == value


@pytest.mark.parametrize(
    "text",
    [
        "clips #2",
        "#1",
        "a: b",
        "- a",
        "*x",
        "&x y",
        "!tag z",
        "%d",
        "@me",
        "2024-01-01",
        "a b",
        "| x",
        "<<",
        "=",
        "a, b]",
    ],
)
def test_a_word_of_the_command_line_is_one_value_as_it_stands(tmp_path, text):
    assert load(tmp_path, "data: {train: x}", "--data.train", text).data.train == text
    assert load(tmp_path, "data: {train: x}", f"--data.train={text}").data.train == text


@pytest.mark.parametrize("text", ["[1] # 2", "'a' #b", "[1", "'a' b"])
def test_what_stands_behind_a_value_in_brackets_is_not_dropped(text):
    with pytest.raises(UserError, match=r"--data\.train"):
        override({}, ["--data.train", text])


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels)]
    return "\n".join([*lines, f"data: {{train: *a{levels - 1}}}"])


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k: 1}"] + [f"a{k}: &a{k} {{<<: [*a{k - 1}, *a{k - 1}]}}" for k in range(1, levels)]
    return "\n".join([*lines, "data: {train: x}"])


BOMBS = {
    "billion laughs": laughs(10),
    "a few laughs": laughs(4),
    "merge keys": merges(24),
    "an alias of itself": "data: &a {train: *a}",
    "3,000 brackets": "data: " + "[" * 3000 + "]" * 3000,
    "100,000 brackets": "data: " + "[" * 100_000,
    "100,000 braces": "data: " + "{a: " * 100_000,
    "many levels of lines": "\n".join(" " * k + "a:" for k in range(500)),
    "5,000 digits": "data: {train: x}\ntraining: {seed: " + "9" * 5000 + "}",
    "5,000 digits as text": "data: {train: x}\ntraining: {seed: '" + "9" * 5000 + "'}",
    "400 digits": "data: {train: x}\ntraining: {clip_gradient_norm: " + "9" * 400 + "}",
    "a long key": "data: {train: x}\n'" + "k" * 100_000 + "': 1",
    "a long value": "data: {train: x}\ntraining: {epochs: '" + "k" * 100_000 + "'}",
    "a long choice": "data: {train: x}\nloss: {similarity: {name: " + "k" * 100_000 + "}}",
    "10,000 keys": "data: {train: x}\n" + "\n".join(f"k{k}: 1" for k in range(10_000)),
    "two megabytes": "# " + "x" * (2 << 20),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_hostile_recipe_is_a_short_sentence_soon(tmp_path, text):
    load(tmp_path, "data: {train: x}")  # what is imported once is not counted
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A megabyte of plain YAML takes PyYAML about 1 s and 60 MB; without bounds these take minutes or gigabytes.
    assert took < 10 and peak < 200 << 20
    assert len(str(caught.value)) < 15_000 and "\n" not in str(caught.value)


def test_anchors_and_merge_keys_in_bounds_are_read():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    assert parse_yaml(text, "r")["b"] == {"x": 1, "y": 3} and parse_yaml(text, "r")["c"][1] == {
        "x": 1,
        "y": 2,
    }


def test_a_message_shows_little_of_a_value():
    assert brief("short") == "'short'" and len(brief(["x" * 10**6] * 10**5)) < 1000
    assert "very many digits" in brief(int("9" * 4000) ** 2)


def cacl(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "launch.main", *words], capture_output=True, text=True, check=False, **more
    )


def test_a_tilde_is_the_home_folder_on_the_command_line_and_in_recipes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = str(tmp_path / "home/g")
    assert load(tmp_path, "data: {train: ~/g, test: null}").data.train == home
    assert load(tmp_path, "data: {train: x}", "--data.train=~/g").data.train == home
    assert complete_recipe({"data": {"train": "x"}}, {"data": {"labels": "~/g"}}).data.labels == home
    assert complete_recipe({"data": {"train": "~/g"}}).data.train == home
    assert load(tmp_path, "data: {train: x}", "--data.test=~").data.test is None
    assert load(tmp_path, "data: {train: a~/b~}").data.train == "a~/b~"
    with pytest.raises(UserError, match=r"^~nobody-here/g: there is no such home folder"):
        load(tmp_path, "data: {train: ~nobody-here/g}")


@pytest.mark.parametrize("word", ["--out=~/clips", "--out=~"])
def test_nothing_is_written_into_a_folder_named_tilde(tmp_path, monkeypatch, word):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(library.__path__[0]).removesuffix("/cacl"))
    here = tmp_path / "here"
    here.mkdir()
    done = cacl("pack", "generated", "--clips", "2", "--frame-side", "48", "--workers", "1", word, cwd=here)
    assert done.returncode == 0, done.stderr
    assert not list(here.iterdir()) and list(home.rglob("manifest.json"))
