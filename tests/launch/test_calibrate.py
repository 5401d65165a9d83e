"""θ: fitted on validation clips under sounds that nothing in view makes, and refused for what it does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image

import cacl
from cacl.errors import UserError
from cacl.evaluation import negatives
from cacl.evaluation.measure import stack_truths
from cacl.evaluation.metrics import auc
from cacl.evaluation.negatives import fit_theta, image_area
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.results import read_clips
from cacl.evaluation.upsampling import upsample
from cacl.labels.table import LabelHeader, LabelTable
from cacl.model.localizer import Localizer, localization_map
from cacl.options import parse, plain
from cacl.runs import calibration
from cacl.runs.checkpoint import read_tensors, seal, write_tensors
from cacl.runs.directory import Run
from cacl.runs.load import open_model
from cacl.viewing.heat import HeatPainter, Scale
from cacl.world import World
from launch.jobs.calibrate import calibrate, open_validation
from launch.jobs.evaluate import evaluate
from launch.jobs.measuring import data_options
from launch.jobs.negatives import Draws, Listening, Sounds, listen
from launch.jobs.recipe import Recipe
from launch.main import main
from launch.verbs.evaluate_table import table
from shards.decoders.augmentation import Augmentation
from shards.plan import make_plan
from tests.evaluation.test_localize import make_film
from tests.helpers.ranks import run_ranks
from tests.shards.classed import Classed, packed_here

CLIPS = 70
"""More than a unit of 64, so that two ranks share them."""
TIMES = 2


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of a small random model, packed validation clips and packed test clips."""
    folder = tmp_path_factory.mktemp("theta")
    for name, split, clips in (("validation", "train", CLIPS), ("test", "test", 10)):
        words = ["--split", split, "--clips", str(clips), "--shard-size", "35", "--frame-side", "64"]
        assert main(["pack", "generated", "--out", str(folder / name), *words, "--workers", "1"]) == 0
    values = {
        "data": {
            "train": str(folder / "validation"),
            "validation": str(folder / "validation"),
            "test": str(folder / "test"),
            "protocol": "boxes",
            "workers": 0,
            "augmentation": {"size": 64, "short_side": 72},
        },
        "model": {
            "image": {"name": "small-cnn", "channels": 16},
            "audio": {"name": "small-cnn", "channels": 16},
            "dimension": 16,
        },
    }
    recipe = parse(Recipe, values, "test")
    run = Run(folder / "run")
    run.create(plain(recipe), {"versions": {"torch": "test"}})
    checkpoint = run.checkpoints / "step-3"
    write_tensors(
        checkpoint / "model.safetensors", Localizer(recipe.model, recipe.loss.scalars(), seed=5).state_dict()
    )
    (checkpoint / "state.json").write_text(json.dumps({"format_version": 1, "step": 3}))
    seal(checkpoint)
    return folder


@pytest.fixture(scope="module")
def fitted(made):
    return calibrate(made / "run", repetitions=TIMES)


@pytest.fixture
def run(made, fitted, tmp_path):
    """A copy of the run, whose θ is fitted."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def validation_of(made):
    return open_validation(data_options(made / "run"), None, "run")


def maps_one_by_one(model, clips, kinds, seed=0):
    """Own maps [N, S, S] and those of every kind [K, N, S, S], by the whole model anew for every sound."""
    sounds = Sounds(Draws(tuple(kinds), TIMES, seed), clips)
    (batch,) = clips.batches(clips.store.indices, len(clips.store.indices))

    @torch.inference_mode()
    def maps(waveforms):
        seen = model(*model.prepare(batch.images, waveforms))
        return upsample(localization_map(seen.image, seen.audio), 224, "bicubic")

    heard = {kind: torch.stack([maps(sounds.play(kind, k, batch)) for k in range(TIMES)]) for kind in kinds}
    return maps(batch.waveforms), heard


def test_theta_is_the_third_quartile_of_the_highest_values_under_all_negatives(made, fitted):
    """Promise 11, against the model that sees frame and sound anew each time; three quarters predict nothing."""
    model, _ = open_model(made / "run")
    _, heard = maps_one_by_one(model, validation_of(made), ("silence", "noise", "off-screen"))
    expected = fit_theta({kind: maps.amax((2, 3)).numpy() for kind, maps in heard.items()})
    # Other batches round otherwise in float32, and most where a norm divides by silence's variance of nearly 0.
    assert fitted.thetas == pytest.approx(expected, abs=1e-4)
    every = torch.cat([image_area(maps, fitted.theta).flatten() for maps in heard.values()])
    assert (every > 0).double().mean() == pytest.approx(0.25, abs=2 / len(every))


def test_the_file_says_what_theta_was_fitted_under(made, fitted):
    file = made / "run" / "calibration" / "upsampling=bicubic,checkpoint=step-3.json"
    found = json.loads(file.read_text())
    assert found["format_version"] == 1 and found["theta"] == fitted.theta == found["thetas"]["maxq3_pooled"]
    assert set(found["thetas"]) == {"max", "max10", "maxq3_pooled", "maxq3_largest"}
    said = {key: found[key] for key in ("checkpoint", "weights", "upsampling", "refinement", "clips")}
    assert said == {
        "checkpoint": "step-3", "weights": "model", "upsampling": "bicubic", "refinement": "none", "clips": CLIPS,
    }  # fmt: skip
    assert found["data"] == validation_of(made).store.fingerprint
    assert found["negatives"] == {
        "kinds": ["silence", "noise", "off-screen"], "repetitions": TIMES, "seed": 0, "off_screen_by": "group",
    }  # fmt: skip
    assert not list(file.parent.glob(".*"))


def calibrate_on_rank(world, run):
    return calibrate(run, world, repetitions=TIMES)


def test_two_ranks_fit_the_same_theta(run, fitted):
    """Promise 4: what is drawn hangs on seed and clip, not on ranks."""
    shutil.rmtree(run / "calibration")
    assert run_ranks(2, calibrate_on_rank, run) == [fitted, None]


def test_what_is_drawn_hangs_on_seed_clip_and_repetition_alone(made):
    clips = validation_of(made)
    (whole,) = clips.batches(clips.store.indices[:6], 6)
    (some,) = clips.batches(clips.store.indices[[4, 1]], 2)
    kinds = ("noise", "off-screen", "10dB")
    sounds = Sounds(Draws(kinds, TIMES), clips)
    for kind in kinds:
        assert torch.equal(sounds.play(kind, 1, whole)[[4, 1]], sounds.play(kind, 1, some))
        assert not torch.equal(sounds.play(kind, 0, some), sounds.play(kind, 1, some))
        other = Sounds(Draws(kinds, TIMES, seed=1), clips)
        assert not torch.equal(other.play(kind, 0, some), sounds.play(kind, 0, some))


def test_each_kind_is_the_sound_that_it_names(made):
    clips = validation_of(made)
    (batch,) = clips.batches(clips.store.indices, CLIPS)
    sounds = Sounds(Draws(("noise", "off-screen", "10dB", "-3dB"), 1), clips)
    assert not sounds.play("silence", 0, batch).any()
    noise = sounds.play("noise", 0, batch)
    # Of 48,000 samples: the mean is within 6/√T, the variance within 6·√(2/T).
    assert noise.mean(1).abs().max() < 0.03 and (noise.var(1) - 1).abs().max() < 0.04
    for kind, ratio in (("10dB", 10.0), ("-3dB", -3.0)):
        power = [
            x.double().square().mean(1)
            for x in (batch.waveforms, sounds.play(kind, 0, batch) - batch.waveforms)
        ]
        assert 10 * torch.log10(power[0] / power[1]) == pytest.approx(ratio, abs=0.2)
    names = {note.index: note.class_name for note in batch.annotations or []}
    off_screen = sounds.play("off-screen", 0, batch)
    for row in range(CLIPS):
        (heard,) = [k for k in range(CLIPS) if torch.equal(off_screen[row], batch.waveforms[k])][:1]
        assert names[int(batch.index[heard])] != names[int(batch.index[row])]


def test_a_frame_goes_through_its_network_once_whatever_is_heard(made, tmp_path):
    clips, (model, _) = validation_of(made), open_model(made / "run")
    seen: list[int] = []
    model.image_trunk.register_forward_pre_hook(lambda trunk, images: seen.append(len(images[0])))
    listening = Listening(model, Sounds(Draws(repetitions=TIMES), clips))
    listen(listening, lambda maps, batch: {}, tmp_path / "parts", {}, World())
    assert sum(seen) == CLIPS


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--validation", "{made}/test"], "holds the run's test clips, on which no θ is fitted"),
        (["--repetitions", "0"], "repetitions: 0 is not in 1 to 100"),
        (["--seed", "-1"], "seed: -1 is less than 0"),
        (["--checkpoint", "best"], "no valid checkpoint with a validation figure"),
        (["--validation", "{made}/run"], "manifest"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(made, fitted, capsys, words, sentence):
    assert main(["calibrate", "--run", str(made / "run"), *(word.format(made=made) for word in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1, error


def test_a_run_without_a_split_of_its_own_is_fitted_on_clips_that_are_named(made, run, fitted, capsys):
    """As one that was imported: its recipe names neither validation nor test clips."""
    shutil.rmtree(run / "calibration")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"] |= {"validation": None, "test": None}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["calibrate", "--run", str(run), "--repetitions", str(TIMES)]
    assert main(words) == 2
    assert "name clean clips by --validation DIR" in capsys.readouterr().err
    assert main([*words, "--validation", str(made / "validation")]) == 0
    assert f"θ {fitted.theta:.4f}: three quarters of {CLIPS} clips' negatives" in capsys.readouterr().out
    assert calibration.find(Run(run), "step-3", "model", "bicubic") == fitted


def test_a_model_that_has_diverged_in_silence_is_one_sentence(run):
    """Comparisons with NaN are false: it would answer all silence by nothing."""
    folder = run / "checkpoints" / "step-3"
    tensors = read_tensors(folder / "model.safetensors")
    write_tensors(
        folder / "model.safetensors",
        tensors | {"audio_heads.0.bias": tensors["audio_heads.0.bias"] * torch.nan},
    )
    (folder / "hashes.json").unlink()
    seal(folder)
    with pytest.raises(UserError, match="clip 0: own: the model gives what is not a finite number"):
        calibrate(run, repetitions=1)


def test_labels_say_what_is_off_screen_where_clips_have_no_classes(made, tmp_path):
    """The table that the recipe names for its validation clips, or one that is given."""
    store = packed_here(make_plan(Classed(classes=("",) * 6), 6), tmp_path / "unnamed")
    header = LabelHeader("mine", weights="", fingerprint=store.fingerprint, classes=2)
    label = np.array([0, 0, 1, 1, 1, 0])
    LabelTable(np.arange(6), label, np.ones(6, np.float32), header).write(tmp_path / "labels.parquet")
    clips = replace(
        validation_of(made).at(str(tmp_path / "unnamed")),
        augmentation=Augmentation(size=32, short_side=36, duration=0.1),
    )
    sounds = Sounds(Draws(("off-screen",), TIMES), clips, str(tmp_path / "labels.parquet"))
    assert sounds.plain()["off_screen_by"] == "label" and len(sounds.plain()["labels"]) == 64
    (batch,) = clips.batches(np.arange(6), 6)
    played = sounds.play("off-screen", 0, batch)
    heard = [next(k for k in range(6) if torch.equal(one, batch.waveforms[k])) for one in played]
    assert (label[heard] != label).all()
    assert Sounds(Draws(("off-screen",), TIMES), clips).plain()["off_screen_by"] == "any"


def test_a_theta_is_refused_under_what_it_was_not_fitted_under(run, fitted):
    directory = Run(run)
    assert calibration.find(directory, "step-3", "model", "bicubic") == fitted
    for asked in (
        ("step-4", "model", "bicubic"),
        ("step-3", "ema", "bicubic"),
        ("step-3", "model", "nearest"),
    ):
        with pytest.raises(
            UserError, match=f"no θ for .* fit it by: cacl calibrate --run {run} --upsampling"
        ):
            calibration.find(directory, *asked)


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"thetas": {"max": 0.1}}, {"clips": "many"}, {"data": None}]
)
def test_a_damaged_file_is_one_sentence(run, change):
    file = run / "calibration" / "upsampling=bicubic,checkpoint=step-3.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(
        UserError, match=r"upsampling=bicubic,checkpoint=step-3.json: .*fit anew: cacl calibrate"
    ):
        calibration.find(Run(run), "step-3", "model", "bicubic")


@pytest.fixture(scope="module")
def evaluated(made, fitted, tmp_path_factory):
    """A run measured with all kinds of sounds, and its record."""
    run = Path(shutil.copytree(made / "run", tmp_path_factory.mktemp("evaluated") / "run"))
    return run, evaluate(run, negatives=Draws(KINDS, TIMES, seed=1))


KINDS = ("silence", "noise", "off-screen", "10dB")


def test_negative_numbers_are_those_of_maps_seen_and_heard_anew(made, fitted, evaluated):
    """Against the whole model for every clip and sound, and the golden functions of one θ."""
    run, record = evaluated
    clips, (model, _) = validation_of(made).at(str(made / "test")), open_model(run)
    own, heard = maps_one_by_one(model, clips, KINDS, seed=1)
    (batch,) = clips.batches(clips.store.indices, 10)
    truth, theta = (
        stack_truths(batch.annotations or [], PROTOCOLS["boxes"], own.device)["boxes"],
        fitted.theta,
    )
    ciou = negatives.own_ciou(own, truth, theta).numpy()
    names = {"silence": "silence", "noise": "noise", "off-screen": "offscreen"}
    areas = {name: negatives.image_area(heard[kind], theta).numpy() for kind, name in names.items()}
    overlaps = {
        n: negatives.overlap_with_own(own, heard[k], theta).numpy()
        for k, n in [*names.items(), ("10dB",) * 2]
    }
    expected = negatives.negative_numbers(ciou, areas, overlaps)
    noisy = torch.cat([negatives.own_ciou(maps, truth, theta) for maps in heard["10dB"]])
    expected |= {"mean_ciou_10dB": float(noisy.mean()), "auc_10dB": auc(noisy)}
    found = record["negatives"]
    # A pixel within rounding of θ moves a clip's area by 1/224², a share at 0.05 steps by one of 20 clips.
    assert found["numbers"] == pytest.approx(expected, abs=1e-3)
    assert (found["theta"], found["fitted_on"], found["seed"], found["n"]) == (theta, fitted.data, 1, 10)
    assert 0 < found["numbers"]["f_loc"] < 1


def test_negative_numbers_stand_in_a_folder_of_their_own_beside_the_plain_ones(evaluated, capsys):
    run, record = evaluated
    theta = f"{record['negatives']['theta']:.4f}"
    drawn = f"negatives:silence+noise+off-screen+10dB|repetitions:{TIMES}|seed:1"
    assert f"|theta:{theta}|{drawn}|" in record["signature"]
    name = f"boxes,negatives=silence+noise+off-screen+10dB,theta={theta},repetitions=2,seed=1"
    assert record["name"] == name
    assert (
        json.loads((run / "evaluation" / name / "metrics.json").read_text())["negatives"]
        == record["negatives"]
    )
    rows = read_clips(run, name)["negatives"]
    assert rows["pia_offscreen"].shape == (10, TIMES) and len(rows["ciou"]) == 10
    found = record["negatives"]
    assert found["intervals"].keys() == found["numbers"].keys()
    for number, (low, high) in found["intervals"].items():
        assert low <= found["numbers"][number] <= high, number
    assert "f_loc" in table(record) and "above θ = " in table(record)
    assert "{:.3f}  [{:.3f}, {:.3f}]".format(
        found["numbers"]["f_loc"], *found["intervals"]["f_loc"]
    ) in table(record)
    assert main(["evaluate", "--run", str(run)]) == 0
    plain_record = json.loads((run / "evaluation" / "boxes" / "metrics.json").read_text())
    assert plain_record["model"] == record["model"] and "negatives" not in plain_record
    # Among several evaluations, a protocol's name is the plain one; the other one goes with reports and compare too.
    capsys.readouterr()
    assert main(["report", "--run", str(run), "--protocol", name, "--clips", "1", "--classes", "0"]) == 0
    page = (run / "report.html").read_text()
    assert "Under other sounds, at θ" in page and found["rule"] in page
    low, high = found["intervals"]["f_loc_silence"]
    assert f"{low:.3f} – {high:.3f}" in page.split('id="negatives"')[1]


def test_negative_numbers_can_be_asked_for_by_their_signature(evaluated, tmp_path):
    first, record = evaluated
    run = Path(shutil.copytree(first, tmp_path / "run"))
    shutil.rmtree(run / "evaluation")
    assert main(["evaluate", "--run", str(run), "--signature", record["signature"]]) == 0
    again = json.loads((run / "evaluation" / record["name"] / "metrics.json").read_text())
    assert again == json.loads((first / "evaluation" / record["name"] / "metrics.json").read_text())


@pytest.fixture(scope="module")
def other(made, evaluated, tmp_path_factory):
    """A run of other weights, with a θ of its own, measured under the same sounds."""
    run = Path(shutil.copytree(made / "run", tmp_path_factory.mktemp("other") / "run"))
    folder = run / "checkpoints" / "step-3"
    recipe = parse(Recipe, Run(run).recipe(), "test")
    other = Localizer(recipe.model, recipe.loss.scalars(), seed=6)
    write_tensors(folder / "model.safetensors", other.state_dict())
    (folder / "hashes.json").unlink()
    seal(folder)
    calibrate(run, repetitions=1)
    evaluate(run, negatives=Draws(KINDS, TIMES, seed=1))
    return run


def test_two_runs_are_compared_by_what_they_answer_to_the_same_sounds(evaluated, other, capsys):
    """Clip by clip, each at its own θ, whatever is newest in the runs: the names of their folders differ."""
    first, record = evaluated
    assert main(["compare", str(first), str(other), "--system", "negatives", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["metrics"]
    second = json.loads((other / "metrics.json").read_text())["negatives"]
    assert second["theta"] != record["negatives"]["theta"]
    numbers = record["negatives"]["numbers"]
    assert said.keys() == numbers.keys()
    for name, one in said.items():
        assert one["first"]["value"] == pytest.approx(numbers[name])
        assert one["difference"]["value"] == pytest.approx(second["numbers"][name] - numbers[name])
    assert main(["compare", str(first), str(other), "--system", "negatives"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(numbers) and any(line.startswith("f_loc: ") for line in lines)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed", "2"], "was not measured with the negative sounds that the first run heard; run: cacl evaluate"),
        (["--repetitions", "1", "--seed", "1"], "--negatives silence noise off-screen 10dB --repetitions 2 --seed 1"),
        ([], "was not measured with the negative sounds that the first run heard"),
    ],
)  # fmt: skip
def test_runs_that_heard_other_sounds_are_not_compared(evaluated, run, capsys, words, sentence):
    drawn = ["--negatives", *KINDS, "--repetitions", str(TIMES), *words] if words else []
    assert main(["evaluate", "--run", str(run), *drawn]) == 0
    assert main(["compare", str(evaluated[0]), str(run), "--system", "negatives"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert main(["compare", str(run), str(run), "--system", "negatives", "--shared"]) == 2
    assert "--shared: negative sounds are drawn from the clips at hand" in capsys.readouterr().err


def evaluate_on_rank(world, run):
    return evaluate(run, world, negatives=Draws(KINDS, TIMES, seed=1))


def test_two_ranks_measure_the_same_negative_numbers(evaluated, run):
    _, record = evaluated
    assert run_ranks(2, evaluate_on_rank, run)[0]["negatives"] == record["negatives"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--upsampling", "bilinear"],
            "no θ for step-3, model weights, bilinear upsampling (there is one for bicubic)",
        ),
        (["--data", "{made}/validation"], "was fitted on these very clips"),
        (["--protocol", "avsbench"], "avsbench measures no cosines"),
        (["--object-guidance", "min-max"], "θ is fitted to maps without objects"),
        (["--negatives", "barking"], "negatives: barking is none of silence, noise, off-screen"),
    ],
)
def test_negative_numbers_that_would_mislead_are_refused_in_one_sentence(made, run, capsys, words, sentence):
    words = ["--negatives", "silence", *(word.format(made=made) for word in words)]
    assert main(["evaluate", "--run", str(run), *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]  # clips that were trained on are a warning of their own
    assert sentence in last


def test_without_a_theta_evaluate_says_how_to_have_one(run, capsys):
    shutil.rmtree(run / "calibration")
    assert main(["evaluate", "--run", str(run), "--negatives", "noise"]) == 2
    assert f"cacl calibrate --run {run}" in capsys.readouterr().err


def picture_and_sound(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(
        tmp_path / "in.png"
    )
    soundfile.write(tmp_path / "in.wav", np.random.default_rng(1).normal(0, 0.1, 48000), 16000)
    return [str(tmp_path / "in.png"), "--sound", str(tmp_path / "in.wav")]


def set_theta(run, theta):
    file = run / "calibration" / "upsampling=bicubic,checkpoint=step-3.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps(found | {"thetas": {**found["thetas"], "maxq3_pooled": theta}}))


@pytest.mark.parametrize("given", ["run", "export"])
@pytest.mark.parametrize(
    ("theta", "sentence"), [(-1.0, "something sounds here"), (1.0, "nothing sounds here")]
)
def test_localize_says_whether_something_sounds_and_draws_no_more(
    run, tmp_path, capsys, given, theta, sentence
):
    """From the run, and from its exported file far from it."""
    set_theta(run, theta)
    words, source = picture_and_sound(tmp_path), run
    if given == "export":
        source = tmp_path / "given.safetensors"
        assert main(["export", "--run", str(run), "--out", str(source)]) == 0
        run.rename(tmp_path / "away")
    assert cacl.load(source).theta == theta
    capsys.readouterr()
    assert main(["localize", *words, "--run", str(source), "--out", str(tmp_path / "out.png")]) == 0
    assert sentence in capsys.readouterr().out
    drawn, given = (np.asarray(Image.open(tmp_path / name)) for name in ("out.png", "in.png"))
    same = np.array_equal(drawn[30:], given[30:])
    assert same == (theta == 1.0), "where nothing sounds nothing is drawn but the words above"


def test_heat_begins_at_the_theta_that_was_fitted_and_ends_at_what_is_surest(run):
    finder = cacl.load(run)
    scale = Scale(*finder.scale)
    assert scale.begin == finder.theta and scale.end == max(finder.scale[2], finder.theta + 0.02)
    raw = np.zeros((7, 7), np.float32)
    raw[1:3, 1:3] = 0.9
    assert HeatPainter(scale, (224, 224)).paint(np.zeros((224, 224, 3), np.uint8), raw)[1].sounds is (
        finder.sounds(torch.from_numpy(raw))
    )


def test_without_a_theta_localize_claims_no_area_and_says_how_to_have_one(run, tmp_path, capsys):
    words = [*picture_and_sound(tmp_path), "--run", str(run), "--out", str(tmp_path / "out.png")]
    file = run / "calibration" / "upsampling=bicubic,checkpoint=step-3.json"
    fitted = json.loads(file.read_text())
    earlier, other = fitted | {"checkpoint": "step-2"}, fitted | {"upsampling": "bilinear"}
    for name, values in (("upsampling=bilinear", other), ("upsampling=bicubic", earlier)):
        file.unlink(missing_ok=True)
        (file.parent / f"{name}.json").write_text(json.dumps(values))
        assert main(["localize", *words, "--overwrite"]) == 0
        said = capsys.readouterr().out
        assert f"cacl calibrate --run {run}" in said and "sounds here" not in said
    assert "no θ for bicubic upsampling, only for bilinear" in said
    assert cacl.load(run).theta is None and cacl.load(run).sounds(torch.ones(7, 7)) is None


def test_a_film_says_in_how_many_of_its_maps_something_sounds(run, tmp_path, capsys):
    film, maps = make_film(tmp_path / "in.mkv", 1), tmp_path / "maps.npz"
    words = [
        str(film),
        "--run",
        str(run),
        "--out",
        str(tmp_path / "out.mp4"),
        "--maps",
        str(maps),
        "--overwrite",
    ]
    assert main(["localize", *words]) == 0
    finder = cacl.load(run)
    highest = [float(finder.pixels(torch.from_numpy(raw)).max()) for raw in np.load(maps)["maps"]]
    set_theta(run, sorted(highest)[2])
    capsys.readouterr()
    assert main(["localize", *words]) == 0
    sounding = sum(value > sorted(highest)[2] for value in highest)
    assert f"10 frames, in {sounding} of 5 maps something sounds" in capsys.readouterr().out
