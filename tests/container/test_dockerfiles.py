"""The container files without building them: hadolint has nothing to say, and what is copied is let through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", DOCKERFILES)
def test_images_are_small_locked_and_not_root(file: Path) -> None:
    text = file.read_text()
    assert text.count("\nFROM ${BASE}") == 2, "what builds stays out of what runs"
    assert '--constraint "constraints/$(' in text
    assert "\nUSER 1000\n" in text and "HEALTHCHECK" in text and "LABEL" in text


def test_the_build_sees_what_the_wheel_is_made_of() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {"pyproject.toml", "constraints", project["project"]["readme"], "LICENSE"} == allowed
