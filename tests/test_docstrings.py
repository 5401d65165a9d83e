"""Docstrings keep the layout that they were given: a summary line, one command a line, whole code spans."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.main import VERBS

ROOT = Path(__file__).parents[1]
FILES = [path for room in ("cacl", "shards", "launch") for path in sorted((ROOT / room).rglob("*.py"))]
WIDTH = 110
SUMMARY = 79
"""Characters of a summary line in the rooms below, whose prose has been gone over."""
GONE_OVER = ("cacl/loss/",)
PROMISES = re.compile(r"\bpromises? (\d+(?:(?:, | and )\d+)*)", re.IGNORECASE)
COMMAND = re.compile(r"(?:cacl|torchrun|srun|make|python -m) ")
GAP = re.compile(r"\S(\s{2,})\S")


def docstrings(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield where each docstring of a file stands, and its lines without the indentation of the first."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)  # clean takes off what all lines but the first share
            if text is not None:
                where = f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'head')}"
                indent = " " * node.body[0].col_offset
                yield where, [line.removeprefix(indent) for line in text.rstrip().split("\n")]


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield the indented parts of a docstring: listings and commands."""
    block: list[str] = []
    for line in [*lines[1:], ""]:
        if line.startswith("    "):
            block.append(line)
        elif block:
            yield block
            block = []


def prose(lines: list[str]) -> Iterator[list[str]]:
    """Yield the paragraphs that are not indented, and are no examples and no table."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip() and not line.startswith("    "):
            paragraph.append(line)
        elif paragraph:
            if not paragraph[0].startswith((">>>", "|")):
                yield paragraph
            paragraph = []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_a_line_of_whole_sentences(path):
    for where, lines in docstrings(path):
        assert lines[0].endswith((".", "?")), where
        assert len(lines) == 1 or not lines[1], f"{where}: nothing follows the summary but an empty line"
        longest = SUMMARY if str(path.relative_to(ROOT)).startswith(GONE_OVER) else WIDTH - len('"""')
        assert len(lines[0]) <= longest, where


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_listings_stay_a_line_each_and_code_spans_whole(path):
    for where, lines in docstrings(path):
        for paragraph in prose(lines):
            for line in paragraph:
                assert line.count("`") % 2 == 0, f"{where}: a code span is cut: {line}"
                assert not GAP.search(line), f"{where}: a listing that is not indented: {line}"
                if where.endswith(": head"):
                    assert not COMMAND.match(line), f"{where}: a command that is not indented: {line}"
        for block in blocks(lines):
            columns = {found.end(1) for line in block if (found := GAP.search(line))}
            assert len(columns) <= 1, f"{where}: the columns of a listing are not aligned: {block}"
            for line, before in zip(block, ["", *block], strict=False):
                continued = before.endswith("\\")
                assert continued or len(COMMAND.findall(line.split("#")[0])) <= 1, (
                    f"{where}: two commands: {line}"
                )


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_opens_with_the_command_that_runs_it(verb):
    module, _ = VERBS[verb]
    _, head = next(docstrings(ROOT / "launch" / "verbs" / f"{module}.py"))
    assert any(line.startswith(f"    cacl {verb}") for line in head)


def test_the_promises_that_tests_cite_are_in_the_list():
    listed = re.findall(r"^\| (\d+) \| \*\*", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    assert listed == [str(number) for number in range(1, 18)]
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for cited in PROMISES.findall(path.read_text()):
            assert set(re.findall(r"\d+", cited)) <= set(listed), path
