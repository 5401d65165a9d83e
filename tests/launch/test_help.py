"""Every verb says what it does and how it is called, and what it says can be typed."""

from __future__ import annotations

import argparse
import shlex

import pytest

from launch.main import VERBS, parser_of


def parsers_of(verb: str) -> dict[str, argparse.ArgumentParser]:
    """The parser of a verb and those of its sub-verbs, by the words that call them."""
    parser = parser_of(verb)
    found = {verb: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {f"{verb} {name}": sub for name, sub in action.choices.items()}
    return found


def examples(parser: argparse.ArgumentParser) -> list[str]:
    joined = parser.format_help().replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in joined.splitlines() if line.startswith("    cacl ")]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_in_the_help_can_be_typed(verb):
    for words, parser in parsers_of(verb).items():
        assert parser.description, words
        if words.startswith("pack ") and words != "pack merge":
            continue  # the help of a source is what the source says of itself
        shown = examples(parser)
        assert any(line.startswith(f"cacl {words}") for line in shown), f"{words}: no command"
        for line in shown:
            _, called, *given = shlex.split(line)
            parser_of(called).parse_known_args(given)  # exits where a word is none


@pytest.mark.parametrize("words", ["pack vggsound", "shards audit", "scenes films"])
def test_a_value_without_a_name_shows_its_kind(words):
    text = parsers_of(words.split()[0])[words].format_usage()
    assert "PATH" in text and " N]" in text
    assert "--out OUT" not in text and "--seconds SECONDS" not in text
