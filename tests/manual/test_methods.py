"""Promise 15: what the manual sets beside a public code's line is what the recipe resolves to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cacl.options import plain
from launch.config import load_recipe

PAGE = Path("docs/recipes.md").read_text()
SECTIONS = dict(re.findall(r"^### `([\w-]+)`\n(.*?)(?=^##)", PAGE, flags=re.S | re.M))
"""Text by recipe, of the recipes that have a section of their own."""


def settings(text: str) -> dict[str, Any]:
    """Return key → value of the second column of a section's table."""
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = [re.fullmatch(r"`([\w.]+): (.*)`", row[1]) for row in cells]
    return {match[1]: yaml.safe_load(match[2]) for match in found if match}


@pytest.mark.parametrize("name", ["slavc", "ez-vsl", "fnac", "sspl"])
def test_a_methods_table_says_what_its_recipe_resolves_to(name):
    stated, recipe = settings(SECTIONS[name]), flat(plain(load_recipe(name, [])))
    assert len(stated) > 15
    assert stated == {key: recipe[key] for key in stated}


@pytest.mark.parametrize("name", ["slavc", "ez-vsl", "fnac", "sspl"])
def test_what_a_recipe_sets_stands_in_its_methods_table(name):
    """What differs from the frame's training, and from the defaults where the frame is silent."""
    stated = settings(SECTIONS[name])
    recipe, frame = (flat(plain(load_recipe(one, []))) for one in (name, "vggsound"))
    changed = {key for key in recipe if recipe[key] != frame.get(key)}
    at_hand = {"data.order.lanes", "loss.objective.name", "loss.regularizers.0.name"}
    assert changed - at_hand - stated.keys() == set()


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as one, under dotted keys."""
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list) and values:
        items = dict(enumerate(values)).items()
    else:
        return {prefix[:-1]: values}
    return {key: value for name, one in items for key, value in flat(one, f"{prefix}{name}.").items()}
