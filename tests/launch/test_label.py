"""Labeling what is labeled already costs nothing; labels of other settings are made anew."""

from __future__ import annotations

import shutil

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
