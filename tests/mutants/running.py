"""Run tests on a copy of the tree in which something is broken."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutants import ROOT, Mutant

_BUILT = {".git", ".venv", ".cache", ".hypothesis", ".mypy_cache", ".ruff_cache", "data", "runs", "build"}
"""What lies at the root and is no part of the product."""
_OURS = {"cacl", "shards", "launch", "tests", "benchmarks"}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torchvision", "scipy.signal", "numba", "hypothesis", "pytest"])
_FAILED = 1
"""Pytest's exit code when tests ran and failed; a break that cannot be imported has another one."""


def copy_tree(to: Path) -> Path:
    """Copy the working tree without what is built or downloaded; return `to`."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {"__pycache__"} | (_BUILT if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, to, ignore=left_out)
    return to


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in a copy until the first failure; return pytest's exit code and the end of its output."""
    with tempfile.NamedTemporaryFile() as output:
        process = _CONTEXT.Process(target=_be_pytest, args=(folder, tests, output.name))
        process.start()
        process.join()
        text = Path(output.name).read_text(errors="replace")
    return process.exitcode or 0, text[-2000:]


def _be_pytest(folder: Path, tests: Sequence[str], output: str) -> None:
    """Be pytest in a copy, in a process that has imported the libraries already but nothing of ours."""
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    # No byte code: a break of the same length within the same second would run as the file it replaced.
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests])))


def verdict_on(mutant: Mutant, folder: Path) -> str:
    """Break the copy, run the mutant's tests, mend it; return "" where they failed, else what happened."""
    path = folder / mutant.file
    text = path.read_text()
    path.write_text(mutant.broken(text))
    try:
        code, output = run_tests(folder, mutant.tests)
    finally:
        path.write_text(text)
    if code == _FAILED:
        return ""
    return (
        "survived" if code == 0 else f"pytest ended with {code}, which says nothing of the tests:\n{output}"
    )
