"""Promise 17: the examples in the docstrings of the loss run, and every part that a recipe can name has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import get_args

import pytest

import cacl.loss
from cacl.loss import options
from cacl.loss.options import LossOptions

MODULES = [f"cacl.loss.{module.name}" for module in pkgutil.iter_modules(cacl.loss.__path__)]
UNIONS = (options.SimilarityOptions, options.PositivesOptions, options.ObjectiveOptions)
PARTS = [part for union in UNIONS for part in get_args(get_args(union)[0])]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_give_what_they_say(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("part", [*PARTS, options.RegularizerOptions, LossOptions, cacl.loss.global_loss])
def test_every_part_has_an_example(part: object) -> None:
    assert doctest.DocTestFinder(recurse=False).find(part)[0].examples
