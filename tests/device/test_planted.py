"""Each place where the product says that something lies on the device is needed: left out, a flow finds it."""

from __future__ import annotations

import ast

import pytest

from tests.device.planted import NO_MISTAKE, planted_mistakes
from tests.mutants import ROOT
from tests.mutants.running import copy_tree, run_tests, verdict_on

MISTAKES = planted_mistakes()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the working tree to be broken, in which the tests pass as long as it is not."""
    copy = copy_tree(tmp_path_factory.mktemp("planted") / "tree")
    for tests in {mistake.tests for mistake in MISTAKES}:
        assert tests
        code, output = run_tests(copy, tests)
        assert code == 0, output
    return copy


@pytest.mark.device
@pytest.mark.timeout(600)  # where one of two ranks finds it, the other one waits for long
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_found(mistake, tree):
    assert verdict_on(mistake, tree) == ""


def test_every_module_that_says_where_tensors_lie_is_on_the_list():
    assert len(MISTAKES) > 70
    sources = {mistake.file: (ROOT / mistake.file).read_text() for mistake in MISTAKES}
    for mistake in MISTAKES:
        assert ast.dump(ast.parse(mistake.broken(sources[mistake.file]))) != ast.dump(
            ast.parse(sources[mistake.file])
        )
    everything = "".join(path.read_text() for path in (ROOT / "cacl").rglob("*.py"))
    everything += "".join(path.read_text() for path in (ROOT / "launch").rglob("*.py"))
    assert all(place in everything for place in NO_MISTAKE)
