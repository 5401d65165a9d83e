"""cacl localize: every argument is checked before a model is loaded, nothing is overwritten, folders are done whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from pycocotools.coco import COCO

import cacl
from launch.jobs.localize import Overlay, Overlays
from launch.jobs.localize_errands import default_name
from launch.main import main
from launch.verbs.localize import _lines, verdict
from tests.launch.tiny import write_recipe
from tests.shards.films import film
from tests.shards.shown import with_matrix


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("localize")
    cacl.train(write_recipe(folder, data), run_dir=folder / "run", max_steps=1)
    return folder / "run"


@pytest.fixture
def source(tmp_path):
    return film(tmp_path / "one.mp4", seconds=2, fps=10)


def localize(capsys, *words):
    code = main(["localize", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.mp4"], "nowhere.mp4: there is no such file"),
        (
            ["one.mp4", "--out", "out.xyz"],
            "out.xyz: is no name of a film that can be written; end it in .mp4",
        ),
        (["one.mp4", "--out", "one.mp4"], "one.mp4: is a file that is read"),
        (
            ["one.mp4", "--out", "there.mp4"],
            "there.mp4: is there already; name another with --out, or replace it",
        ),
        (["one.mp4", "--out", "one.wav/x/out.mp4"], "cannot be written in"),
        (["one.mp4", "--sound", "nowhere.wav"], "nowhere.wav: there is no such file"),
        (["one.mp4", "--sound", "frame.png"], "frame.png: has no sound"),
        (["one.mp4", "--start", "7"], "--start 7: one.mp4 is over after 2.00 s"),
        (["one.mp4", "--tracks", "there.mp4"], "there.mp4: is there already"),
        (
            ["one.mp4", "--tracks", "a.json", "--maps", "a.json"],
            "a.json: would be made of one.mp4 and of one.mp4",
        ),
        (["silent.mp4"], "silent.mp4: has no sound; give its sound with --sound FILE"),
        (["one.wav"], "one.wav: has no picture"),
        (["frame.png"], "frame.png: has no sound; give the sound of this picture with --sound FILE"),
        (["frame.png", "--sound", "one.wav", "--out", "x.mp4"], "x.mp4: is no name of a picture"),
        (["frame.png", "--sound", "one.wav", "--reframe", "1:1"], "frame.png: is a picture; --start"),
        (["empty"], "empty: holds nothing that can be localized"),
        (["films", "--tracks", "a.json"], "--tracks a.json: names one file, and films is a folder"),
        (["films", "--out", "a.mp4"], "--out a.mp4: is a file's name, and films is a folder"),
    ],
)
def test_bad_arguments_are_one_sentence_before_a_model_is_loaded(
    tmp_path, source, monkeypatch, capsys, words, sentence
):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "silent.mp4", seconds=1, silent=True)
    (tmp_path / "there.mp4").write_text("an earlier film")
    Image.new("RGB", (30, 20)).save(tmp_path / "frame.png")
    soundfile.write(tmp_path / "one.wav", np.zeros(8000), 16000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "films").mkdir()
    film(tmp_path / "films" / "a.mp4", seconds=1)
    monkeypatch.setattr(cacl, "load", lambda *_: pytest.fail("a model was loaded"))
    code, _, err = localize(capsys, *words, "--run", "nowhere")
    assert code == 2 and sentence in err and err.count("\n") == 1
    assert (tmp_path / "there.mp4").read_text() == "an earlier film"


def test_arguments_that_make_no_sense_are_refused_and_a_run_and_a_model_exclude_each_other(capsys):
    for words in (
        ["--reframe", "wide"],
        ["--every", "0"],
        ["--export", "voc"],
        ["--run", "a", "--model", "b"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["localize", "one.mp4", *words])
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("cacl localize: ")


def test_wrong_files_are_found_without_torch(tmp_path):
    code = "import sys; from launch.main import main; main(['localize', 'nowhere.mp4']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0


def test_a_film_leaves_all_that_is_asked_for_and_says_what_it_was_trained_on(
    run, source, tmp_path, capsys, data
):
    words = [
        "--tracks",
        "--maps",
        "--reframe",
        "1:1",
        "--export",
        "coco",
        "--export",
        "cvat",
        "--export",
        "labelstudio",
    ]
    code, out, err = localize(capsys, source, "--run", run, *words, "--every", "0.5")
    assert code == 0
    names = ["one-sound" + end for end in (".mp4", ".coco.json", ".cvat.xml", ".labelstudio.json", ".npz", ".tracks.json", "-1x1.mp4")]  # fmt: skip
    assert [line for line in out.splitlines() if line.startswith(str(tmp_path))] == [
        str(tmp_path / name) for name in names
    ]
    assert all((tmp_path / name).stat().st_size for name in names)
    assert f"trained on {data} (" in out and "no θ: cacl calibrate" in out
    assert "one.mp4: 100%" in err and "20/20" in err, "frames are known from the container"
    tracks = json.loads((tmp_path / "one-sound.tracks.json").read_text())
    assert [one["time"] for one in tracks["moments"]] == pytest.approx([0, 0.5, 1, 1.5], abs=0.01)
    assert all(one["sounds"] is None and one["box"] is None for one in tracks["moments"]), "no θ, no area"
    assert len(COCO(tmp_path / "one-sound.coco.json").imgs) == 4
    with av.open(str(tmp_path / "one-sound-1x1.mp4")) as cut:
        assert (cut.streams.video[0].width, cut.streams.video[0].height) == (64, 64)
    code, _, err = localize(capsys, source, "--run", run)
    assert code == 2 and "one-sound.mp4: is there already" in err
    assert localize(capsys, source, "--run", run, "--overwrite", "--seconds", "0.3")[0] == 0


def test_films_of_one_name_in_a_folder_do_not_collide_and_what_is_broken_is_named(run, tmp_path, capsys):
    folder = tmp_path / "films"
    for name in ("one.mp4", "one.mkv"):
        film(folder / name, seconds=1, fps=5)
    (folder / "broken.mp4").write_bytes(b"no film")
    (folder / "notes.txt").write_text("no film and not meant to be one")
    Image.new("RGB", (30, 20)).save(folder / "two.png")
    soundfile.write(folder / "two.wav", np.zeros(8000), 16000)
    code, out, _ = localize(capsys, folder, "--run", run, "--tracks")
    made = {path.name for path in (tmp_path / "films-sound").iterdir()}
    assert made == {
        "one-sound.mp4", "one-sound.tracks.json", "one-mkv-sound.mp4", "one-mkv-sound.tracks.json",
        "two-sound.png", "two-sound.tracks.json",
    }  # fmt: skip
    assert code == 2 and f"{folder / 'broken.mp4'}: left out: " in out and "notes.txt" not in out


def test_a_turned_film_is_written_as_it_is_shown(run, tmp_path, capsys):
    source = with_matrix(film(tmp_path / "in.mp4", seconds=1, fps=5, size=(96, 64)), (0, 1, -1, 0))
    assert localize(capsys, source, "--run", run, "--no-strip", "--out", tmp_path / "out.mp4")[0] == 0
    with av.open(str(tmp_path / "out.mp4")) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (64, 96)


def test_a_gif_says_that_it_has_no_sound(run, source, tmp_path, capsys):
    _, out, _ = localize(capsys, source, "--run", run, "--out", tmp_path / "out.gif", "--seconds", "0.5")
    assert "out.gif: a GIF has no sound" in out


def test_default_names_keep_another_ending(tmp_path):
    assert [str(default_name(tmp_path / name)) for name in ("a.mp4", "a.webm", "a.MOV", "a.jpg")] == [
        "a-sound.mp4", "a-webm-sound.mp4", "a-mov-sound.mp4", "a-sound.jpg",
    ]  # fmt: skip


def test_a_model_that_is_much_less_sure_than_on_clips_that_it_knows_says_so():
    unsure, sure = (Overlay(Path("a.mp4"), (), 10, 5, 0.3, 2, highest, best=0.7) for highest in (0.45, 0.6))
    assert unsure.far and not sure.far
    said = "\n".join(_lines(Overlays([unsure, sure], {}, "data/stamps"), "runs/a"))
    assert said.count("stay far below those of clips that the model knows (0.700)") == 1
    assert "trained on data/stamps" in said and verdict(sure, "runs/a") in said
