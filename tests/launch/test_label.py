"""Labeling what is labeled already costs nothing; labels of other settings are made anew."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from cacl.labels.table import LabelHeader, LabelTable
from launch.jobs.label import is_labeled
from launch.main import main


def test_a_table_that_is_there_is_kept_and_another_is_written_over(tmp_path, data, capsys):
    folder = tmp_path / "train"
    shutil.copytree(data, folder)
    table = folder / "labels" / "efficientnet-lite0.parquet"
    words = ["label", str(folder), "--workers", "0"]
    assert main(words) == 0
    assert "72 clips" in capsys.readouterr().out
    first = table.stat().st_mtime_ns
    assert main(words) == 0
    assert "is there already" in capsys.readouterr().out and table.stat().st_mtime_ns == first
    assert main([*words, "--soft"]) == 0
    assert table.stat().st_mtime_ns > first
    table.write_bytes(b"PAR1")
    assert main(words) == 0
    assert "72 clips" in capsys.readouterr().out


HEADER = LabelHeader("efficientnet-lite0", "w" * 64, "f" * 64, 1000, {"views": "whole"})


@pytest.mark.parametrize(
    "change",
    [
        {"classifier": "resnet18"},
        {"weights": "v" * 64},
        {"fingerprint": "e" * 64},
        {"preprocessing": {"views": "crops"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_table_counts_only_where_network_weights_clips_and_view_are_the_same(tmp_path, change):
    """Another classifier written to the same --out must not be mistaken for done."""
    path = tmp_path / "table.parquet"
    columns = np.arange(3), np.zeros(3, np.int64), np.ones(3, np.float32)
    LabelTable(*columns, HEADER).write(path)
    assert is_labeled(path, HEADER, 3, False)
    assert not is_labeled(path, dataclasses.replace(HEADER, **change), 3, False)
    assert not is_labeled(path, HEADER, 4, False) and not is_labeled(path, HEADER, 3, True)
    assert not is_labeled(tmp_path / "none.parquet", HEADER, 3, False)
    LabelTable(*columns, HEADER, np.full((3, 2), 0.5, np.float32)).write(path)
    assert is_labeled(path, HEADER, 3, True) and not is_labeled(path, HEADER, 3, False)
