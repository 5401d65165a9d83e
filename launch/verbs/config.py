"""Print a recipe with every default filled in and every override applied.

    cacl config launch/recipes/demo.yaml --optimizer.learning-rate 1e-3
    cacl config demo

The second names the same recipe: those that come with cacl are found by their names from anywhere.
"""

from __future__ import annotations

import argparse

import yaml

from launch.config import OVERRIDES_HELP, load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a recipe: its path, or the name of one that comes with cacl"
    )
    parser.epilog = OVERRIDES_HELP
    parser.set_defaults(takes_overrides=True)


def main(arguments: argparse.Namespace) -> None:
    """Print the resolved recipe as YAML."""
    from cacl.options import plain

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    print(yaml.safe_dump(plain(recipe), sort_keys=False), end="")
