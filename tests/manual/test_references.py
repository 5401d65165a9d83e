"""Promise 10: what a recipe or the command can take stands in the manual, with its default and a sentence."""

from __future__ import annotations

import argparse
import json
import re

import pytest

from cacl.options import plain
from docs.reference import commands, recipes
from docs.reference.docstrings import short_signature, to_rst
from launch.config import load_recipe
from launch.jobs.changes import flat
from launch.jobs.recipe import Recipe
from launch.main import VERBS
from launch.sweeping.space import Space
from tests.manual.snippets import ROOT

ENTRY = re.compile(
    r"^\[`(?P<key>[\w.]+)`\]\{#(?P<anchor>[\w-]+)\} — (?P<rest>.*)\n: (?P<text>.*)$", re.MULTILINE
)


@pytest.mark.parametrize("root", [Recipe, Space])
def test_every_key_of_a_recipe_has_a_sentence_and_an_anchor_of_its_own(root):
    entries = [found.groupdict() for found in ENTRY.finditer(recipes.reference(root))]
    assert len(entries) > 8
    assert [entry["key"] for entry in entries if not entry["text"].strip().endswith((".", ".)", "`."))] == []
    anchors = [entry["anchor"] for entry in entries]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("recipe", ["demo", "slavc", "lvs", "sspl"])
def test_the_keys_that_config_prints_are_those_of_the_reference(recipe):
    page = recipes.reference(Recipe)
    for key in flat(plain(load_recipe(recipe, []))):
        mapping = key.rpartition(".")[0]  # whose own keys its text names
        if not key.endswith(".name"):
            assert f"[`{key}`]" in page or f"[`{mapping}`]" in page, key


def test_defaults_are_those_of_the_code():
    rests = {found["key"]: found["rest"] for found in ENTRY.finditer(recipes.reference(Recipe))}
    assert rests["data.train"] == "text or list of mappings, required"
    assert rests["data.train.weight"] == "number above 0 or null, default `null`"
    assert rests["training.epochs"] == "integer above 0, default `10`"
    assert rests["training.ema_decay"] == "number of 0 or more below 1 or null, default `null`"
    assert rests["loss.regularizers"] == "list of `{name: fnac}`, default `[]`"
    assert "A choice by name: `constant`, `cosine`. Default: `cosine`." in recipes.reference(Recipe)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_in_the_reference(verb):
    page = commands.reference()
    waiting = [commands.parser_of(verb)]
    for parser in waiting:
        assert re.search(rf"^#+ {re.escape(parser.prog)}$", page, re.MULTILINE)
        waiting += [below for below, _ in commands.children(parser).values()]
        for action in parser._actions:
            assert action.dest == "help" or all(f"`{name}`" in page for name in action.option_strings)
            assert action.help or isinstance(action, argparse._SubParsersAction), (
                f"{parser.prog}: {action.dest}"
            )


def test_options_that_a_sentence_names_are_code_and_pages_are_links():
    page = commands.reference()
    assert "Clusters are those of sound alone (`--of sound`)" in page
    assert "a function of yours, FILE.py:FUNCTION ([docs/labels.md](labels.md))" in page
    outside = re.sub(r"```.*?```|`[^`\n]+`", "", page, flags=re.DOTALL)
    assert re.findall(r".*(?<![\w-])--[a-z].*", outside) == []


def test_docstrings_become_code_emphasis_and_listings():
    lines = [
        "The `mean` of all, *averaged* over |x| and s_ij: docs/own-maps.md has it.",
        "",
        "    cacl.load    a model",
        "",
        "    >>> 1 * 2",
    ]
    assert to_rst(lines) == [
        "The ``mean`` of all, *averaged* over \\|x\\| and s\\_ij: :doc:`docs/own-maps.md </own-maps>` has it.",
        "",
        ".. code-block:: none",
        "",
        "    cacl.load    a model",
        "",
        ".. code-block:: python",
        "",
        "    >>> 1 * 2",
    ]


def test_signatures_are_code():
    assert (
        short_signature(
            "(a: ~types.Annotated[~m.A | ~m.B, FieldInfo(annotation=NoneType, required=True)] = <factory>, "
            "b: ~c.Callable[[], bool] = <function C.<lambda>>, c: int = <function up>)"
        )
        == "(a: ~m.A | ~m.B = ..., b: ~c.Callable[[], bool] = ..., c: int = ...)"
    )


def test_the_notebook_holds_no_results_that_its_page_does_not_make_anew():
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text())["cells"]
    assert any(cell["cell_type"] == "code" for cell in cells)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
