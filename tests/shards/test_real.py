"""Promise 12 on media that people filmed: the clips of VGG-SS at hand, with their official boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shards.store import open_store
from tests.launch.tiny import cacl


def test_clips_of_vgg_ss_are_packed_with_their_own_boxes(
    real_dir: Path, lists_dir: Path, tmp_path: Path
) -> None:
    """Boxes are compared with a table that was checked by eye; one clip ends before its annotated frame."""
    films = sorted((real_dir / "vggss").glob("*.mp4"))
    ids, out = tmp_path / "ids.txt", tmp_path / "packed"
    ids.write_text("\n".join(film.stem for film in films))
    words = ["--boxes", str(lists_dir / "vggss.json"), "--list", str(ids), "--max-rejected", "0.1"]
    answer = cacl("pack", "vggss", "--root", str(real_dir / "vggss"), "--out", str(out), *words)
    assert answer.returncode == 0, answer.stderr
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    short = {row["id"] for row in rejected if row["reason"].startswith("truncated video: no frame at 5.00 s")}
    assert len(short) == len(rejected) <= 2
    rows = json.loads((real_dir / "manifest.json").read_text())
    expected = {row["key"]: row["boxes"] for row in rows if row["file"].startswith("vggss/")}
    store = open_store(str(out))
    notes = [store.annotation(int(index)) for index in store.indices]
    assert {note.id for note in notes} == {film.stem for film in films} - short and len(notes) >= 20
    for note in notes:
        assert np.array(note.boxes) == pytest.approx(np.array(expected[note.id]), abs=1e-6), note.id
