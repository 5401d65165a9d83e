"""Breaks of the product, each with the tests that must fail on it: a test suite for the tests.

Every `<folder>.toml` lists breaks that the tests of `tests/<folder>` must notice. Run them with
`make test-mutants`, or some of them with `python -m tests.mutants temperature ema`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One plausible mistake, small enough to slip through a review."""

    folder: str
    """The folder below `tests/` that must notice."""
    name: str
    """What is wrong, in words."""
    file: str
    """The file that is broken, relative to the root."""
    find: str
    """What stands there, exactly once."""
    replace: str
    """What the break makes of it."""
    tests: tuple[str, ...]
    """Pytest node ids, of which at least one must fail."""

    def __str__(self) -> str:
        return f"{self.folder}: {self.name}"

    def broken(self, text: str) -> str:
        """Return `text` of the file with the break. Raises ValueError unless the place is there once."""
        if (count := text.count(self.find)) != 1:
            raise ValueError(
                f"{self}: its place occurs {count} times in {self.file}; give one that is unique"
            )
        return text.replace(self.find, self.replace)


def load_mutants() -> list[Mutant]:
    """Read every list, in order of their names."""
    mutants = []
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["mutant"]:
            mutants.append(Mutant(folder=path.stem, **{**entry, "tests": tuple(entry["tests"])}))
    return mutants
