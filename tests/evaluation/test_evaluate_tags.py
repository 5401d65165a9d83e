"""The localizer without training is measured as a run is, on real clips."""

from __future__ import annotations

import json
import shutil

import pytest

from cacl.evaluation.results import read_clips, read_record
from cacl.model.tags.localizer import load_tags
from cacl.runs.tags import fitted
from launch.main import main


@pytest.fixture(scope="module")
def pack(real_dir, tmp_path_factory):
    """Return what packs a few real clips of VGG-SS, with their boxes, at a rate."""
    folder = tmp_path_factory.mktemp("tags")
    rows = json.loads((real_dir / "manifest.json").read_text())
    boxes = {row["key"]: row for row in rows if row.get("boxes")}
    names = [file.stem for file in sorted((real_dir / "vggss_pairs").glob("*.jpg"))][:3]
    (folder / "media").mkdir()
    for name in names:
        for ending in ("jpg", "wav"):
            shutil.copy(real_dir / f"vggss_pairs/{name}.{ending}", folder / "media")
    listed = [{"file": name, "class": boxes[name]["cls"], "bbox": boxes[name]["boxes"]} for name in names]
    (folder / "boxes.json").write_text(json.dumps(listed))

    def packed(rate: int) -> str:
        out = folder / f"at-{rate}"
        words = ["--sample-rate", str(rate), "--seconds", "3", "--frame-side", "416", "--out", str(out)]
        if not out.exists():
            media = ["--root", str(folder / "media"), "--boxes", str(folder / "boxes.json")]
            assert main(["pack", "prepared", *media, *words]) == 0
        return str(out)

    return packed


@pytest.fixture(autouse=True)
def models(real_dir, monkeypatch):
    monkeypatch.setenv("CACL_MODELS", str(real_dir / "models"))


def test_it_has_a_record_as_a_run_has(pack, tmp_path, capsys):
    words = ["evaluate", "--model", "tags", "--protocol", "boxes", "--out", str(tmp_path)]
    drawn = ["--negatives", "silence", "off-screen", "--repetitions", "1"]
    assert main([*words, "--data", pack(32_000), *drawn]) == 0
    said = capsys.readouterr().out
    assert "objects alone" in said and "trained" not in said
    record = read_record(tmp_path)
    assert record["n"] == 3 and record["checkpoint"] == "tags" and "theta:0.40" in record["signature"]
    assert {"model", "objects", "centered_box"} <= set(read_clips(tmp_path, record["name"]))
    assert record["negatives"]["numbers"]["pia_silence"] < record["negatives"]["numbers"]["mean_ciou"]


def test_sounds_at_another_rate_are_brought_to_its_own_or_refused(pack, tmp_path, capsys):
    words = ["evaluate", "--model", "tags", "--protocol", "boxes"]
    assert main([*words, "--data", pack(44_100), "--out", str(tmp_path / "a")]) == 0
    assert main([*words, "--data", pack(32_000), "--out", str(tmp_path / "b")]) == 0
    higher, own = (read_record(tmp_path / name)["model"]["auc_adaptive"] for name in "ab")
    assert higher == pytest.approx(own, abs=0.02)  # the tagger's front end ends at 15 kHz
    capsys.readouterr()
    assert main([*words, "--data", pack(16_000), "--out", str(tmp_path / "c")]) == 2
    assert "--sample-rate 32000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "d"], "--out: missing"),
        (["--out", "o"], "--data: missing"),
        (["--data", "d", "--out", "o", "--weights", "ema"], "--weights: goes with --run"),
        (["--data", "d", "--out", "o", "--threshold", "0.5"], "--threshold: goes with --predictions"),
    ],
)
def test_what_a_trained_model_alone_has_is_refused(words, said, capsys):
    assert main(["evaluate", "--model", "tags", *words]) == 2
    assert said in capsys.readouterr().err


def test_theta_was_fitted_to_these_weights_table_and_settings():
    assert fitted()[0].checkpoint == load_tags().identity()
