"""The verbs evaluate and report on packed clips and a run directory, and the report in a real browser."""

import argparse
import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
import yaml

from cacl.errors import UserError
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.results import read_clips
from cacl.loss import LossOptions
from cacl.model.localizer import Localizer
from cacl.options import parse, plain
from cacl.runs.checkpoint import seal, write_tensors
from cacl.runs.directory import Run
from cacl.viewing.gallery import choose
from launch import evaluate
from launch.jobs.recipe import Recipe
from launch.main import main
from tests.ranks import run_ranks

CLIPS = 10
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a small random model, its checkpoint, three log lines, and packed test clips."""
    folder = tmp_path_factory.mktemp("evaluation")
    test = folder / "test"
    words = [
        "--split",
        "test",
        "--clips",
        str(CLIPS),
        "--shard-size",
        "4",
        "--frame-side",
        "64",
        "--workers",
        "1",
    ]
    assert main(["pack", "generated", "--out", str(test), *words]) == 0
    values = {
        "data": {
            "train": str(test),
            "test": str(test),
            "workers": 0,
            "augmentation": {"size": 64, "short_side": 72},
        },
        "model": {"image": {"name": "small-cnn"}, "sound": {"name": "small-cnn"}, "dimension": 16},
    }
    recipe = parse(Recipe, values, "test")
    run = Run(folder / "run")
    run.create(plain(recipe), {"versions": {"torch": "test"}})
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 3.0 / step})
    other = Localizer(recipe.model, LossOptions().scalars(), seed=5)
    checkpoint = run.checkpoints / "step-3"
    write_tensors(checkpoint / "model.safetensors", other.state_dict())
    (checkpoint / "state.json").write_text(json.dumps({"format_version": 1, "step": 3}))
    seal(checkpoint)
    return run.folder


@pytest.fixture(scope="module")
def evaluated(run):
    assert main(["evaluate", "--run", str(run), "--object-guidance", "min-max"]) == 0
    return run


def test_evaluate_leaves_the_summary_of_the_run(evaluated):
    """Promise: protocol, n, and the figures under model, untrained, centered_box, other_sound."""
    summary = json.loads((evaluated / "metrics.json").read_text())
    assert (summary["protocol"], summary["n"], summary["missing"]) == ("stamps", CLIPS, [])
    figures = {"peak_in_box", "pixel_ap", "ciou", "ciou_top50", "auc_top50"}
    for system in ("model", "untrained", "centered_box", "guided", "objects"):
        assert figures <= set(summary[system])
    assert set(summary["other_sound"]) == {"peak_in_sounding_box", "peak_in_first_box"}
    assert summary["model"] != summary["untrained"]
    assert (
        json.loads((evaluated / "evaluation/stamps/metrics.json").read_text())
        == summary["evaluations"]["stamps"]
    )
    systems = read_clips(evaluated, "stamps")
    assert systems["model"]["index"].tolist() == list(range(CLIPS))
    assert systems["other_sound"]["peak_in_first_box"].mean() == summary["other_sound"]["peak_in_first_box"]
    assert not list((evaluated / "evaluation").glob(".*"))


def evaluate_on_rank(world, words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    evaluate.evaluate_rank(parser.parse_args(words), world)


def copied(evaluated, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    (copy / "metrics.json").unlink()
    return copy, ["--run", str(copy), "--object-guidance", "min-max"]


def same_numbers(evaluated, copy):
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (evaluated, copy))
    return one == two


def test_two_ranks_report_the_same_numbers(evaluated, tmp_path):
    copy, words = copied(evaluated, tmp_path)
    run_ranks(2, evaluate_on_rank, words)
    assert same_numbers(evaluated, copy)


@pytest.mark.slow
def test_two_ranks_started_by_the_verb_report_the_same_numbers(evaluated, tmp_path):
    copy, words = copied(evaluated, tmp_path)
    assert main(["evaluate", *words, "--nproc-per-node", "2"]) == 0
    assert same_numbers(evaluated, copy)


def test_a_list_of_ids_names_what_is_missing(evaluated, tmp_path):
    known = read_clips(evaluated, "stamps")["model"]["id"].tolist()
    ids, copy = tmp_path / "ids.txt", tmp_path / "run"
    ids.write_text("\n".join([known[3], "never-packed", known[1]]))  # without a last newline, as in the field
    shutil.copytree(evaluated, copy)
    assert main(["evaluate", "--run", str(copy), "--ids", str(ids)]) == 0
    summary = json.loads((copy / "metrics.json").read_text())
    assert (summary["n"], summary["missing"]) == (2, ["never-packed"])
    assert summary["share_of_set"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "nonsense"], "there is no protocol 'nonsense'; choose one of stamps"),
        (["--data", "nowhere"], "nowhere"),
        (["--ids", "nowhere.txt"], "--ids nowhere.txt: cannot be read"),
        (["--object-guidance", "min-max", "--alpha", "2"], "--alpha 2: give a number in 0..1"),
        (
            ["--object-guidance", "min-max", "--alpha", "choose", "--validation", "{test}"],
            "holds the test clips",
        ),
        (["--without-quirks", "thinned-ap"], "protocol stamps: has no quirk 'thinned-ap'"),
        (
            ["--protocol", "slavc-compat", "--without-quirks", "x"],
            "its quirks are nan-when-nothing, strict-half",
        ),
        (["--object-weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_bad_arguments_are_one_sentence_and_lose_nothing(evaluated, capsys, words, message):
    before = (evaluated / "metrics.json").read_text()
    words = [word.replace("{test}", str(evaluated.parent / "test")) for word in words]
    assert main(["evaluate", "--run", str(evaluated), *words]) == 2
    assert message in capsys.readouterr().err
    assert (evaluated / "metrics.json").read_text() == before


def test_a_quirk_and_the_upsampling_are_switched_by_name(evaluated, tmp_path):
    numbers = {}
    for name, words in {
        "quirks": [],
        "without": ["--without-quirks", "thinned-ap,strict-half"],
        "bilinear": ["--upsampling", "bilinear"],
    }.items():
        copy = tmp_path / name
        shutil.copytree(evaluated, copy)
        assert main(["evaluate", "--run", str(copy), "--protocol", "slavc-compat", *words]) == 0
        numbers[name] = json.loads((copy / "metrics.json").read_text())
    assert numbers["quirks"]["options"]["upsampling"] == "bicubic-corners"
    assert numbers["without"]["options"]["quirks"] == "nan-when-nothing thinned-f1"
    assert numbers["bilinear"]["options"]["upsampling"] == "bilinear"
    assert numbers["bilinear"]["model"] != numbers["quirks"]["model"]
    assert main(["compare", str(tmp_path / "quirks"), str(tmp_path / "without")]) == 2


def test_more_clips_than_the_official_set_are_refused():
    with pytest.raises(UserError, match=r"the official set has 3 clips, these are 4; .*--ids FILE"):
        evaluate.check_size("vggss", 3, 4)


def test_alpha_is_chosen_on_other_clips_or_on_a_reserved_tenth(evaluated, tmp_path):
    """Promise: the clips of the choice are declared, and no part of any number."""
    validation = tmp_path / "validation"
    words = ["--split", "test", "--seed", "1", "--clips", "6", "--frame-side", "64", "--workers", "1"]
    assert main(["pack", "generated", "--out", str(validation), *words]) == 0
    guidance = {}
    for name, more in {"reserved": [], "other": ["--validation", str(validation)]}.items():
        copy = tmp_path / name
        shutil.copytree(evaluated, copy)
        words = ["--run", str(copy), "--object-guidance", "fixed-range", "--alpha", "choose"]
        assert main(["evaluate", *words, *more]) == 0
        record = json.loads((copy / "metrics.json").read_text())
        guidance[name] = record["object_guidance"] | {"n": record["n"], "missing": record["missing"]}
    assert guidance["reserved"]["reserved"] == [0]
    assert (guidance["reserved"]["n"], guidance["reserved"]["missing"]) == (CLIPS - 1, [])
    assert (guidance["other"]["n"], guidance["other"]["chosen_on"]) == (CLIPS, 6)
    assert 0 <= guidance["other"]["alpha"] <= 1


def test_a_run_without_checkpoint_or_evaluation_says_what_to_do(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": {"train": "x", "test": "x"}}))
    assert main(["report", "--run", str(tmp_path)]) == 2
    assert "run first: cacl evaluate" in capsys.readouterr().err


@pytest.fixture(scope="module")
def page(evaluated):
    assert main(["report", "--run", str(evaluated), "--clips", "6", "--classes", "0"]) == 0
    return evaluated / "report.html"


@pytest.fixture(scope="module")
def page_of_two(evaluated, tmp_path_factory):
    """The report of the run beside one with other weights."""
    folder = tmp_path_factory.mktemp("two")
    first, second = folder / "first", folder / "second"
    for copy in (first, second):
        shutil.copytree(evaluated, copy)
    recipe = parse(Recipe, Run(second).recipe(), "recipe")
    step = second / "checkpoints" / "step-3"
    (step / "hashes.json").unlink()
    write_tensors(
        step / "model.safetensors", Localizer(recipe.model, LossOptions().scalars(), seed=9).state_dict()
    )
    seal(step)
    assert main(["evaluate", "--run", str(second)]) == 0
    assert (
        main(["report", "--run", str(first), "--beside", str(second), "--clips", "4", "--classes", "2"]) == 0
    )
    return first / "report.html"


def test_the_report_needs_no_network_and_holds_everything(page):
    html = page.read_text()
    assert len(html) < 8_000_000
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    for kind in ("image/jpeg", "image/webp", "audio/flac"):
        assert html.count(f"data:{kind}") == 12  # two sounds for each of six clips
    for text in ("trained model", "untrained model", "centered box", "objects alone", "ceiling", "own sound"):
        assert text in html
    for text in (
        "other sound",
        "95 % interval",
        "100.0 % of the set",
        "upsampling bicubic",
        "size of the object",
    ):
        assert text in html


def test_two_models_stand_side_by_side_on_the_same_frames(page_of_two):
    html = page_of_two.read_text()
    assert "On the left first, on the right second" in html
    assert html.count("<span>first: ") == html.count("<span>second: ") == html.count('class="clip"') >= 5
    record = json.loads((page_of_two.parent / "metrics.json").read_text())
    assert html.count("<li>") == len(record["intervals"])  # a verdict for every number with an interval


def test_a_run_is_not_laid_beside_one_of_other_clips_or_of_its_own_name(page_of_two, capsys):
    run = str(page_of_two.parent)
    assert main(["report", "--run", run, "--beside", run]) == 2
    assert "is named like the run itself" in capsys.readouterr().err


def test_the_gallery_shows_random_best_worst_every_class_and_the_surest_of_the_silent():
    clips = 30
    index = np.arange(clips)
    columns = {
        "index": 100 + index,
        "class_name": np.array([f"class-{k % 4}" for k in index]),
        "boxes": np.where(index < 24, 1, 0),
        "ciou": np.where(index < 24, index / 24, 0),
        "pixel_ap": np.where(index < 24, index / 24, np.nan),
        "confidence": index / clips,
    }
    found = choose(columns, PROTOCOLS["extended-stamps"], count=8, classes=3)
    assert found["The best"] == [123, 122]
    assert found["The worst"] == [100, 101]
    assert len(found["Drawn at random"]) == 4
    by_class = found["One of each class, the weakest classes first"]
    assert [k % 4 for k in by_class] == [0, 1, 2]
    assert found["Nothing in view sounds: where the model is surest"] == [129, 128]
    every = [k for rows in found.values() for k in rows]
    assert len(every) == len(set(every))


PROBE = """
<script>
window.addEventListener("load", async () => {
  const sounds = [...document.querySelectorAll("audio")];
  const heard = sounds.map(sound => new Promise(done => {
    if (sound.readyState > 0) done(sound.duration);
    sound.addEventListener("loadedmetadata", () => done(sound.duration));
    sound.addEventListener("error", () => done(-1));
  }));
  const durations = await Promise.all(heard);
  const pictures = [...document.querySelectorAll("img")];
  await Promise.all(pictures.map(picture => picture.decode()));
  const found = {
    pictures: pictures.length,
    shown: pictures.filter(picture => picture.naturalWidth > 0 && picture.clientWidth > 50).length,
    durations: durations,
    lines: document.querySelectorAll("svg.chart polyline").length,
    wide: document.documentElement.scrollWidth > window.innerWidth,
  };
  console.log("PROBE" + JSON.stringify(found) + "EBORP");
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
@pytest.mark.parametrize("which", ["page", "page_of_two"])
def test_the_report_in_a_real_browser(which, request, tmp_path):
    """Promise: no console errors, pictures and players present; measured by Chromium itself."""
    page, probed = request.getfixturevalue(which), tmp_path / "report.html"
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    options += ["--remote-debugging-port=0", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()]
    console = []
    with subprocess.Popen([CHROMIUM, *options], stderr=subprocess.PIPE, text=True) as browser:
        watchdog = threading.Timer(120, browser.kill)
        watchdog.start()
        for line in browser.stderr:
            console += [line] if "CONSOLE" in line else []
            if "EBORP" in line:
                break
        browser.kill()
        watchdog.cancel()
    assert len(console) == 1, console  # the probe's own line, and no error
    found = json.loads(re.search("PROBE(.*)EBORP", console[0])[1])
    views = 2 * page.read_text().count('class="clip"')  # two sounds, or two models
    assert views >= 10
    assert found["pictures"] == found["shown"] == 2 * views  # a frame and a heat map
    assert found["durations"] == pytest.approx([3.0] * views, abs=0.05)
    assert found["lines"] >= 2
    assert not found["wide"]
