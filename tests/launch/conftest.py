"""Data that every test of this folder may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.tiny import cacl


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 generated clips in shards of 6."""
    folder = tmp_path_factory.mktemp("data") / "train"
    answer = cacl(
        "pack", "generated", "--out", str(folder), "--clips", "72", "--shard-size", "6", "--frame-side", "48"
    )
    assert answer.returncode == 0, answer.stderr
    return folder
