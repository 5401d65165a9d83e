"""The localizer without training is measured as a run is, on real clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cacl.errors import UserError
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.results import read_clips, read_record
from cacl.model.tags.localizer import load_tags
from cacl.runs.tags import fitted
from launch.jobs.tags import same_clips
from launch.main import main
from tests.launch.tiny import write_recipe


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


def test_its_signature_asks_for_the_same_again(pack, tmp_path):
    words = ["evaluate", "--model", "tags", "--data", pack(32_000)]
    asked = ["--protocol", "boxes", "--upsampling", "bilinear"]
    assert main([*words, *asked, "--out", str(tmp_path / "a")]) == 0
    first = read_record(tmp_path / "a", "boxes,upsampling=bilinear")
    assert main([*words, "--signature", first["signature"], "--out", str(tmp_path / "b")]) == 0
    again = read_record(tmp_path / "b", "boxes,upsampling=bilinear")
    assert (again["model"], again["signature"]) == (first["model"], first["signature"])


def test_sounds_at_another_rate_are_brought_to_its_own_or_refused(pack, tmp_path, capsys):
    words = ["evaluate", "--model", "tags", "--protocol", "boxes"]
    assert main([*words, "--data", pack(44_100), "--out", str(tmp_path / "a")]) == 0
    assert main([*words, "--data", pack(32_000), "--out", str(tmp_path / "b")]) == 0
    higher, own = (read_record(tmp_path / name)["model"]["auc_adaptive"] for name in "ab")
    assert higher == pytest.approx(own, abs=0.02)  # the tagger's front end ends at 15 kHz
    capsys.readouterr()
    assert main([*words, "--data", pack(16_000), "--out", str(tmp_path / "c")]) == 2
    assert "--sample-rate 32000" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(pack, tmp_path_factory):
    """Return a run of one step, whose test clips are those of `pack` at 16 kHz."""
    folder = tmp_path_factory.mktemp("beside")
    assert main(["pack", "generated", "--out", str(folder / "train"), "--clips", "12", "--workers", "1"]) == 0
    test = {"test": pack(16_000), "protocol": "boxes"}
    recipe = write_recipe(folder, folder / "train", data=test)
    main(["train", str(recipe), "--run-dir", str(folder / "run"), "--max-steps", "1"])
    return folder / "run"


def test_beside_a_trained_run_it_gets_what_it_gets_alone(pack, run, tmp_path, capsys):
    assert main(["evaluate", "--run", str(run)]) == 0
    trained = read_record(run)["model"]
    capsys.readouterr()
    assert main(["evaluate", "--run", str(run), "--tags", pack(32_000)]) == 0
    assert " tags" in capsys.readouterr().out
    assert read_record(run)["model"] == trained
    alone = ["--model", "tags", "--data", pack(32_000), "--protocol", "boxes", "--out", str(tmp_path)]
    assert main(["evaluate", *alone]) == 0
    assert read_record(run)["tags"] == pytest.approx(read_record(tmp_path)["model"], abs=1e-6)


def test_a_rate_too_low_is_refused_before_anything_is_measured(pack, run, capsys):
    assert main(["evaluate", "--run", str(run), "--tags", pack(16_000)]) == 2
    said = capsys.readouterr().err
    assert "--sample-rate 32000" in said and "clip/s" not in said


def test_its_rows_are_those_of_the_same_clips_whatever_their_order():
    measured, found = (clips_of(names) for names in ("cab", "abcd"))
    assert same_clips(found, measured, "d").id.tolist() == ["c", "a", "b"]
    assert same_clips(found, measured, "d")["ciou"].tolist() == [2, 0, 1]
    assert same_clips(found, measured, "d").index.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"--tags d: lacks 1 of the 4 clips that are measured, such as d"):
        same_clips(measured, found, "d")
    with pytest.raises(UserError, match="clip b has another class or other boxes"):
        same_clips(replace(found, boxes=np.array([1, 2, 1, 1])), measured, "d")


def clips_of(names: str) -> ClipResults:
    places = np.arange(len(names))
    ones = np.ones(len(names), dtype=np.int64)
    return ClipResults(places, np.array([*names]), np.array(["dog"] * len(names)), ones, {"ciou": places})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "d"], "--out: missing"),
        (["--out", "o"], "--data: missing"),
        (["--data", "d", "--out", "o", "--weights", "ema"], "--weights: goes with --run"),
        (["--data", "d", "--out", "o", "--tags", "t"], "--tags: goes with --run"),
        (["--data", "d", "--out", "o", "--threshold", "0.5"], "--threshold: goes with --predictions"),
    ],
)
def test_what_a_trained_model_alone_has_is_refused(words, said, capsys):
    assert main(["evaluate", "--model", "tags", *words]) == 2
    assert said in capsys.readouterr().err


def test_theta_was_fitted_to_these_weights_table_and_settings():
    assert fitted()[0].checkpoint == load_tags().identity()
