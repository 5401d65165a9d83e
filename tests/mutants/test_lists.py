"""The lists of breaks keep up with the code: each place exists once, each test too, in the list's own folder."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import ROOT, load_mutants

MUTANTS = load_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_break_applies_and_still_compiles(mutant):
    before = (ROOT / mutant.file).read_text()
    assert ast.dump(ast.parse(mutant.broken(before))) != ast.dump(ast.parse(before))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_tests_of_a_break_exist_in_the_folder_of_its_list(mutant):
    for node in mutant.tests:
        file, _, function = node.partition("::")
        assert file.startswith(f"tests/{mutant.folder}/"), node
        names = {
            part.name
            for part in ast.parse((ROOT / file).read_text()).body
            if isinstance(part, ast.FunctionDef)
        }
        assert not function or function.partition("[")[0] in names, node


def test_no_two_breaks_share_their_place_and_change():
    assert len({(m.file, m.find, m.replace) for m in MUTANTS}) == len(MUTANTS)
    assert len({str(m) for m in MUTANTS}) == len(MUTANTS)
