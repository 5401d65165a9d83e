"""The verbs evaluate and report on packed clips and a run directory, and the report in a real browser."""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score

from cacl.errors import UserError
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.compare import lower_is_better
from cacl.evaluation.evaluator import Evaluator
from cacl.evaluation.measure import measure_batch
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS
from cacl.evaluation.results import read_clips
from cacl.evaluation.systems import maps_of, system_of
from cacl.loss import LossOptions
from cacl.model.localizer import Localizer
from cacl.options import parse, plain
from cacl.runs.checkpoint import seal, write_tensors
from cacl.runs.directory import Run
from cacl.runs.load import open_model
from cacl.threads import torch_threads
from cacl.viewing.gallery import choose
from cacl.viewing.pictures import heat_image, webp_url
from cacl.world import World
from launch.jobs.baselines import Guidance, mix_objects
from launch.jobs.evaluate import check_size, evaluate
from launch.jobs.leaks import training_leaks
from launch.jobs.measuring import Measurement, open_test
from launch.jobs.recipe import DataOptions, Recipe, TrainSource
from launch.jobs.report import examples
from launch.main import main
from launch.verbs import evaluate as verb
from launch.verbs.evaluate_table import absent
from launch.verbs.evaluate_words import FOR_PREDICTIONS
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches
from shards.plan import make_plan
from shards.store import open_store
from tests.helpers.ranks import run_ranks
from tests.helpers.text import match_in
from tests.shards.classed import Classed, packed_here
from tests.shards.tiny import notes_of

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
        "model": {"image": {"name": "small-cnn"}, "audio": {"name": "small-cnn"}, "dimension": 16},
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
    """Promise 13: protocol, n, and the figures under model, untrained, centered_box, other_sound."""
    summary = json.loads((evaluated / "metrics.json").read_text())
    assert (summary["protocol"], summary["n"], summary["missing"]) == ("stamps", CLIPS, [])
    figures = {"peak_in_box", "pixel_ap", "ciou", "ciou_top50", "auc_top50"}
    for system in ("model", "untrained", "centered_box", "guided", "objects"):
        assert figures <= set(summary[system])
    assert set(summary["other_sound"]) == {"peak_in_sounding_box", "peak_in_first_box"}
    assert summary["model"] != summary["untrained"]
    name = "stamps,guidance=min-max,alpha=0.4"
    assert (
        json.loads((evaluated / "evaluation" / name / "metrics.json").read_text())
        == summary["evaluations"][name]
    )
    clips = read_clips(evaluated, "stamps")
    assert clips["model"].index.tolist() == list(range(CLIPS))
    assert clips["other_sound"]["peak_in_first_box"].mean() == summary["other_sound"]["peak_in_first_box"]
    assert not list((evaluated / "evaluation").glob(".*"))


def test_the_evaluator_alone_gives_the_numbers_of_the_verb(evaluated):
    """Promise 17: the same maps, boxes and masks, without run and shards."""
    model, _ = open_model(evaluated)
    test, _ = open_test(evaluated, None, None)
    (batch,) = test.batches(test.store.indices, CLIPS)
    alone = Evaluator("stamps")
    boxes, masks = ([getattr(note, name) for note in notes_of(batch)] for name in ("boxes", "mask"))
    with torch_threads(
        1
    ):  # as the verb computes, whatever the machine: some processors round otherwise on two
        maps = maps_of(model)(batch.images, batch.waveforms).numpy()
    alone.update(maps, boxes, masks=masks)
    assert alone.compute() == json.loads((evaluated / "metrics.json").read_text())["model"]


def evaluate_on_rank(world, run):
    return evaluate(run, world, object_guidance="min-max")


def copied(evaluated, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    (copy / "metrics.json").unlink()
    return copy, ["--run", str(copy), "--object-guidance", "min-max"]


def same_numbers(evaluated, copy):
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (evaluated, copy))
    return one == two


def test_two_ranks_report_the_same_numbers(evaluated, tmp_path):
    copy, _ = copied(evaluated, tmp_path)
    record, nothing = run_ranks(2, evaluate_on_rank, copy)
    assert same_numbers(evaluated, copy)
    assert record["model"] == json.loads((copy / "metrics.json").read_text())["model"] and nothing is None


def test_every_option_reaches_the_ranks_that_the_verb_starts():
    """`--nproc-per-node` starts them with these words; what is left out would be measured by its default."""
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    options = {action.dest for action in parser._actions} - {
        "help",
        "run",
        "nproc_per_node",
        "signature",
        "predictions",
    }
    options -= {
        *FOR_PREDICTIONS,
        "out",
        "model",
        "json",
    }  # and a signature has become the options that it tells
    assert sorted(options - {"negatives"}) == sorted(verb.RANK_WORDS)
    words = verb.rank_words(
        parser.parse_args(["--run", "R", "--negatives", "silence", "10dB", "--seed", "3"])
    )
    again = parser.parse_args(words)
    assert (again.run, again.negatives, again.seed) == ("R", ["silence", "10dB"], 3)


SEEDS = {"latest model": 5, "latest ema": 7, "best model": 11}
"""Of the weights that a run holds."""


@pytest.fixture(scope="module")
def run_of_many_weights(run, tmp_path_factory):
    """The run with a moving average beside its newest model, and an earlier checkpoint that is the best one."""
    copy = tmp_path_factory.mktemp("weights") / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("evaluation", "metrics.json"))
    for step, recall, weights in ((2, 0.5, {"model": 11}), (3, 0.25, {"model": 5, "ema": 7})):
        folder = copy / "checkpoints" / f"step-{step}"
        (folder / "hashes.json").unlink(missing_ok=True)
        for name, seed in weights.items():
            write_tensors(folder / f"{name}.safetensors", model_of(copy, seed).state_dict())
        state = {"format_version": 1, "step": step, "validation": {"recall_at_1": recall}}
        (folder / "state.json").write_text(json.dumps(state))
        seal(folder)
    return copy


def model_of(run, seed):
    recipe = parse(Recipe, Run(run).recipe(), "recipe")
    return Localizer(recipe.model, LossOptions().scalars(), seed=seed).eval()


def join_labels(run, audio="wav", size=CLIPS):
    recipe = parse(Recipe, Run(run).recipe(), "recipe")
    assert recipe.data.test is not None, "the run names its test clips"
    store = open_store(recipe.data.test)
    batches = evaluation_batches(
        store, store.indices, size, TorchDecoder(), 0, augmentation=recipe.data.augmentation, audio=audio
    )
    return list(batches)


def predict(model, clips):
    """The columns of one model, by its maps in one batch and no driver."""
    (batch,) = clips
    systems = {"model": system_of(maps_of(model))}
    return measure_batch(systems, batch, PROTOCOLS["stamps"], torch.device("cpu"))["model"]


def assert_same_columns(found, expected):
    assert set(expected.columns) <= set(found.columns)
    found, expected = (one.facts | dict(one.columns) for one in (found, expected))
    for name, column in expected.items():
        if column.dtype.kind == "f":  # other units of clips may round otherwise in float32
            np.testing.assert_allclose(found[name], column, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], column, err_msg=name)


def assert_measured(run, which, found):
    """The columns `found` are those of the weights `which`, and not those of the others."""
    clips = join_labels(run)
    expected = {name: predict(model_of(run, seed), clips) for name, seed in SEEDS.items()}
    assert_same_columns(found, expected.pop(which))
    assert not any(np.allclose(found["pixel_ap"], other["pixel_ap"]) for other in expected.values())


@pytest.mark.parametrize("named", ["best", "step-2"])
def test_another_checkpoint_is_measured_when_it_is_named(run_of_many_weights, named, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_of_many_weights, copy)
    assert main(["evaluate", "--run", str(copy), "--checkpoint", named]) == 0
    assert_measured(copy, "best model", read_clips(copy, "stamps")["model"])
    assert json.loads((copy / "metrics.json").read_text())["checkpoint"] == "step-2"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("step-7", "holds no step-7; there are: step-2, step-3"),
        ("step-2", "step-2: damaged (model.safetensors does not match its sha256); name another checkpoint"),
        ("newest", "'newest' is none of latest, best, step-N"),
        ("step-2/../step-3", "is none of latest, best, step-N"),
    ],
)
def test_a_checkpoint_that_cannot_be_had_is_one_sentence(run_of_many_weights, named, said, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run_of_many_weights, copy)
    shutil.copy(copy / "checkpoints/step-3/model.safetensors", copy / "checkpoints/step-2")
    with contextlib.suppress(SystemExit):
        assert main(["evaluate", "--run", str(copy), "--checkpoint", named]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1] and "Traceback" not in error  # leaks are told before


def test_the_moving_average_is_measured_and_drawn_when_it_is_named(run_of_many_weights, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_of_many_weights, copy)
    assert main(["evaluate", "--run", str(copy), "--weights", "ema"]) == 0
    assert_measured(copy, "latest ema", read_clips(copy, "stamps")["model"])
    assert main(["report", "--run", str(copy), "--weights", "ema", "--clips", "1", "--classes", "0"]) == 0
    html, drawn = (copy / "report.html").read_text(), {}
    for name in ("model", "ema"):
        maps = maps_of(model_of(copy, SEEDS[f"latest {name}"]))
        one_by_one = [maps(batch.images, batch.waveforms) for batch in join_labels(copy, size=1)]
        drawn[name] = [
            webp_url(heat_image(PROTOCOLS["stamps"].score_maps(one)[0])) in html for one in one_by_one
        ]
    assert any(drawn["ema"]) and not any(drawn["model"])


def test_nothing_is_taken_over_from_a_stopped_evaluation_of_another_checkpoint(run_of_many_weights, tmp_path):
    """It has stopped before it wrote its result, and the training has gone on since."""
    copy = tmp_path / "run"
    shutil.copytree(run_of_many_weights, copy)
    (copy / "evaluation").mkdir()
    (copy / "evaluation" / "stamps").write_text("in the way of the result")
    assert main(["evaluate", "--run", str(copy)]) == 1
    assert list((copy / "evaluation").glob(".stamps.parts/**/*.npz")), "what is measured is kept"
    (copy / "evaluation" / "stamps").unlink()
    newest, average = copy / "checkpoints" / "step-4", copy / "checkpoints" / "step-3" / "ema.safetensors"
    newest.mkdir()
    shutil.copy(average, newest / "model.safetensors")
    (newest / "state.json").write_text(json.dumps({"format_version": 1, "step": 4}))
    seal(newest)
    assert main(["evaluate", "--run", str(copy)]) == 0
    assert_measured(copy, "latest ema", read_clips(copy, "stamps")["model"])


def test_the_newest_model_stands_beside_the_one_of_before_the_first_step(evaluated):
    found, clips = read_clips(evaluated, "stamps"), join_labels(evaluated)
    assert_measured(evaluated, "latest model", found["model"])
    seed = parse(Recipe, Run(evaluated).recipe(), "recipe").training.seed
    assert_same_columns(found["untrained"], predict(model_of(evaluated, seed), clips))


def test_a_control_hears_its_own_sound_over_the_same_frames(evaluated, tmp_path):
    clips, _ = open_test(evaluated)
    work = Measurement(clips, tmp_path / "parts", {}, World())
    for protocol, audio in ((PROTOCOLS["stamps"], "wav"), (CONTROLS["stamps"]["other_sound"], "other.wav")):
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def maps(images, waveforms, seen=seen):
            seen.append((images, waveforms))
            return torch.zeros(len(images), 7, 7)

        work.measure({"model": system_of(maps)}, protocol, clips.store.indices)
        ((images, waveforms),) = seen
        (batch,) = join_labels(evaluated, audio)
        assert torch.equal(images, batch.images) and torch.equal(waveforms, batch.waveforms)
    (own,) = join_labels(evaluated)
    assert not torch.equal(own.waveforms, waveforms)


@pytest.mark.slow
def test_two_ranks_started_by_the_verb_report_the_same_numbers(evaluated, tmp_path):
    copy, words = copied(evaluated, tmp_path)
    assert main(["evaluate", *words, "--nproc-per-node", "2"]) == 0
    assert same_numbers(evaluated, copy)


def test_test_clips_that_were_trained_on_are_a_warning_and_stand_in_the_record(evaluated, tmp_path, capsys):
    """The run of these tests was trained on what it is tested on."""
    copy, words = copied(evaluated, tmp_path)
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(read_clips(evaluated, "stamps")["model"].id.tolist()[:2]))
    capsys.readouterr()
    for more, clips in (([], CLIPS), (["--ids", str(ids)], 2)):
        assert main(["evaluate", *words, *more]) == 0
        said = [
            line for line in capsys.readouterr().err.splitlines() if "the training data share clips" in line
        ]
        assert (
            len(said) == 1 and f"has {clips} of them, 0 in part" in said[0] and "cacl shards audit" in said[0]
        )
        (found,) = json.loads((copy / "metrics.json").read_text())["shared_with_training"]
        assert (found["same_clip"], found["same_moment"], found["same_film"]) == (clips, 0, 0)


def test_a_training_set_that_is_not_there_or_elsewhere_is_no_warning(evaluated, tmp_path):
    clips, _ = open_test(evaluated)
    for train in (str(tmp_path / "nowhere"), "s3://bucket/train"):
        assert training_leaks(DataOptions(train=train), clips.store) is None
    words = ["--split", "train", "--clips", "3", "--frame-side", "64", "--workers", "1"]
    assert main(["pack", "generated", "--out", str(tmp_path / "other"), *words]) == 0
    assert training_leaks(DataOptions(train=str(tmp_path / "other")), clips.store) == []
    sources = TrainSource(str(tmp_path / "other")), TrainSource(str(clips.store.files.location))
    (found,) = training_leaks(DataOptions(train=sources), clips.store) or []
    assert found["training"] == clips.store.files.location and found["same_clip"] == CLIPS


def test_a_list_of_ids_names_what_is_missing(evaluated, tmp_path):
    known = read_clips(evaluated, "stamps")["model"].id.tolist()
    ids, copy = tmp_path / "ids.txt", tmp_path / "run"
    ids.write_text("\n".join([known[3], "never-packed", known[1]]))  # without a last newline, as in the field
    shutil.copytree(evaluated, copy)
    assert main(["evaluate", "--run", str(copy), "--ids", str(ids)]) == 0
    summary = json.loads((copy / "metrics.json").read_text())
    assert (summary["n"], summary["missing"]) == (2, ["never-packed"])
    assert summary["share_of_set"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ([], ""),
        ([27], "; 1 missing (index 27)"),
        ([3, 4], "; 2 missing (indices 3, 4)"),
        (list(range(7)), "; 7 missing (indices 0, 1, 2, 3, 4 …)"),
        (["a", "b"], "; 2 missing (a, b)"),
    ],
)
def test_how_many_clips_are_missing_is_not_taken_for_which(missing, said):
    """Promise 13."""
    assert absent(missing) == said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "nonsense"], "there is no protocol 'nonsense'; choose one of scenes, stamps"),
        (["--data", "nowhere"], "nowhere"),
        (["--ids", "nowhere.txt"], "--ids nowhere.txt: there is no such file"),
        (["--object-guidance", "min-max", "--alpha", "2"], "--alpha 2: give a number in 0..1"),
        (
            ["--object-guidance", "min-max", "--alpha", "choose", "--validation", "{test}"],
            "holds the test clips",
        ),
        (
            ["--object-guidance", "min-max", "--alpha", "choose"],
            "has no data.validation to choose on; name annotated clips by --validation DIR, or give alpha a",
        ),
        (["--alpha", "choose"], "ask for them by --object-guidance"),
        (["--object-guidance", "min-max", "--validation", "{test}"], "it is for --alpha choose"),
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


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_test_clips_that_the_recipe_names_from_elsewhere_are_asked_for(
    evaluated, verb, tmp_path, monkeypatch, capsys
):
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    recipe["data"]["test"] = "data/test"
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    assert main([verb, "--run", "run"]) == 2
    said = capsys.readouterr().err
    assert f"data.test: there is no data/test in {tmp_path}; name the test clips by --data DIR" in said


def test_two_evaluations_under_other_options_lie_side_by_side(run_of_many_weights, tmp_path, capsys):
    """Promise 9: neither changes the other, and each is read by its name."""
    copy = tmp_path / "run"
    shutil.copytree(run_of_many_weights, copy)
    kept: dict[str, dict[str, bytes]] = {}
    for words in ([], ["--weights", "ema"], ["--upsampling", "bilinear", "--checkpoint", "best"]):
        assert main(["evaluate", "--run", str(copy), *words]) == 0
        for name, files in kept.items():
            assert files == {file.name: file.read_bytes() for file in (copy / "evaluation" / name).iterdir()}
        summary = json.loads((copy / "metrics.json").read_text())
        folder = copy / "evaluation" / summary["name"]
        kept[summary["name"]] = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert list(summary["evaluations"]) == list(kept)
    names = ["stamps", "stamps,weights=ema", "stamps,upsampling=bilinear,checkpoint=best"]
    assert list(kept) == names
    assert_measured(copy, "latest model", read_clips(copy, "stamps")["model"])
    assert_measured(copy, "latest ema", read_clips(copy, "stamps,weights=ema")["model"])
    capsys.readouterr()
    assert main(["compare", str(copy), str(copy), "--protocol", names[1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["miou"]["first"]["value"]
    assert found == pytest.approx(
        summary["evaluations"][names[1]]["model"]["miou"], rel=1e-12
    )  # a mean in two orders
    assert main(["compare", str(copy), str(copy), "--protocol", "stamps,weights=none"]) == 2
    assert "; ".join(sorted(names)) in capsys.readouterr().err
    words = ["--protocol", names[2], "--clips", "1", "--classes", "0"]
    assert main(["report", "--run", str(copy), *words]) == 0
    assert "upsampling bilinear" in (copy / "report.html").read_text()


def test_more_clips_than_the_official_set_are_refused():
    with pytest.raises(UserError, match=r"the official set has 3 clips, these are 4; .*--ids FILE"):
        check_size(replace(PROTOCOLS["vggss"], official_clips=3), 4)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Six annotated clips that are not tested."""
    folder = tmp_path_factory.mktemp("others") / "validation"
    words = ["--split", "test", "--seed", "1", "--clips", "6", "--frame-side", "64", "--workers", "1"]
    assert main(["pack", "generated", "--out", str(folder), *words]) == 0
    return folder


@pytest.mark.parametrize("named", ["by the option", "by the recipe"])
def test_alpha_is_chosen_on_validation_clips_and_all_test_clips_count(evaluated, others, tmp_path, named):
    """Promises 11 and 13: the record says on which clips, and none of them is a test clip."""
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    words = ["--run", str(copy), "--object-guidance", "fixed-range", "--alpha", "choose"]
    if named == "by the option":
        words += ["--validation", str(others)]
    else:
        write_validation(copy, str(others))
    assert main(["evaluate", *words]) == 0
    record = json.loads((copy / "metrics.json").read_text())
    said, fingerprint = record["object_guidance"], open_store(others).fingerprint
    assert (said["chosen_on"], said["validation"]) == (6, fingerprint)
    assert said["alpha"] in {k / 10 for k in range(11)}
    assert (record["n"], record["missing"]) == (CLIPS, [])
    assert record["name"] == f"stamps,guidance=fixed-range,alpha=choose,validation={fingerprint[:8]}"


def write_validation(run, location):
    """Let a run's recipe name a validation split."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["validation"] = location
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def test_alpha_stays_what_it_is_where_the_recipe_names_validation_clips(evaluated, others, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    write_validation(copy, str(others))
    assert main(["evaluate", "--run", str(copy), "--object-guidance", "fixed-range"]) == 0
    record = json.loads((copy / "metrics.json").read_text())
    assert record["object_guidance"]["alpha"] == 0.4 and "chosen_on" not in record["object_guidance"]


def test_validation_clips_without_boxes_choose_no_alpha(evaluated, tmp_path, capsys):
    """As those of VGG-Sound are; the sentence says which clip, and what else can be done."""
    bare = tmp_path / "bare"
    packed_here(make_plan(Classed(classes=("a", "b")), 2), bare)
    words = ["--object-guidance", "min-max", "--alpha", "choose", "--validation", str(bare)]
    assert main(["evaluate", "--run", str(evaluated), *words]) == 2
    said = capsys.readouterr().err
    assert f"{bare}/shard-000000.tar: 000000000 has no boxes to choose by" in said and "--alpha 0.4" in said


def test_alpha_is_chosen_by_the_number_that_ranks_clips_best(evaluated, others, tmp_path):
    """On the validation clips, against scikit-learn's average precision of every mixture."""
    tested, protocol = open_test(evaluated)
    work = Measurement(tested, tmp_path / "parts", {}, World())
    audio, objects = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(27))

    def constant(one):
        return lambda images, waveforms: one.expand(len(images), 7, 7)

    def best_on(clips):
        """The alpha whose mixtures have the highest mean over clips."""
        (batch,) = clips.batches(clips.store.indices, CLIPS)
        masks = [protocol.truth(note, protocol.size)["mask"].flatten().numpy() for note in notes_of(batch)]
        scaled = [protocol.score_maps(one)[0] for one in (audio, objects)]
        scaled = [(one - one.min()) / (one.max() - one.min()) for one in scaled]
        quality = {}
        for alpha in np.arange(11) / 10:
            mixture = (alpha * scaled[0] + (1 - alpha) * scaled[1]).flatten().numpy()
            quality[alpha] = np.mean([average_precision_score(mask, mixture) for mask in masks])
        return max(quality, key=quality.__getitem__)

    validation = tested.at(str(others))
    guidance = Guidance("min-max", alpha="choose", validation=validation)
    _, said = mix_objects(guidance, work, constant(audio), constant(objects), protocol)
    assert said["alpha"] == best_on(validation) != best_on(tested)
    assert 0 < said["alpha"] < 1, "the case tells a mixture from either map alone"


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
    assert main(["evaluate", "--run", str(second), "--object-guidance", "min-max"]) == 0
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


def test_tables_and_verdicts_name_the_run_that_their_numbers_are_of(page_of_two):
    folder = page_of_two.parent
    records = {
        name: json.loads((folder.parent / name / "metrics.json").read_text()) for name in ("first", "second")
    }
    html = page_of_two.read_text()
    for metric, (low, high) in records["first"]["intervals"].items():
        if records["first"]["ceiling"].get(metric) == 0:
            continue
        row = match_in(html, rf"<td>{metric}<span[^>]*>[^<]*</span></td>(.*?)</tr>")[1]
        cells = re.findall(r"<td[^>]*>([^<]*)</td>", row)[:4]
        other = records["second"]
        ends = other["intervals"][metric]
        assert cells == [
            f"{records['first']['model'][metric]:.3f}",
            f"{low:.3f} – {high:.3f}",
            f"{other['model'][metric]:.3f}",
            f"{ends[0]:.3f} – {ends[1]:.3f}",
        ], metric
    numbers = [{**record["model"]} for record in records.values()]
    verdicts = re.findall(r"<li>(.*?)</li>", html)
    told = 0
    for verdict in verdicts:
        metric = verdict.partition(":")[0]
        points = 100 * (numbers[0][metric] - numbers[1][metric])
        if "cannot tell" in verdict:
            found = match_in(verdict, r"cannot tell second and first apart \(([+-][\d.]+) points")
            assert float(found[1]) == pytest.approx(points, abs=0.051), verdict
        else:
            better, by = match_in(
                verdict, r": (\w+) is better than \w+ by ([\d.]+) points \(first − second"
            ).groups()
            assert float(by) == pytest.approx(abs(points), abs=0.051)
            assert better == ("first" if (points > 0) != lower_is_better(metric) else "second")
        told += abs(points) > 0.1
    assert told, "the runs differ"


def test_examples_show_each_sound_with_the_object_that_makes_it(evaluated):
    clips, protocol = open_test(evaluated)
    maps = maps_of(model_of(evaluated, 5))
    found = examples({"run": maps}, clips, [3, 1], protocol)
    assert list(found) == [3, 1]
    for audio, row in (("wav", 0), ("other.wav", 1)):
        (batch,) = join_labels(evaluated, audio)
        scores = protocol.score_maps(maps(batch.images, batch.waveforms))
        for index, example in found.items():
            note, view = batch.annotations[index], example.views[row]
            (heard,) = note.heard_in(audio)
            assert example.clip_id == note.id and view.boxes == list(heard.boxes)
            assert view.title == f"{'other' if row else 'own'} sound: {heard.class_name}"
            torch.testing.assert_close(view.scores, scores[index], atol=1e-4, rtol=0)
            assert torch.equal(view.waveform, batch.waveforms[index])
    first, second = found[3].views
    assert first.boxes != second.boxes and not torch.equal(first.waveform, second.waveform)


def test_a_run_is_not_laid_beside_one_of_other_clips_or_of_its_own_name(page_of_two, capsys):
    run = str(page_of_two.parent)
    assert main(["report", "--run", run, "--beside", run]) == 2
    assert "is named like the run itself" in capsys.readouterr().err


def test_the_gallery_shows_random_best_worst_every_class_and_the_surest_of_the_silent():
    clips = 30
    index = np.arange(clips)
    columns = {
        "ciou": np.where(index < 24, index / 24, 0),
        "pixel_ap": np.where(index < 24, index / 24, np.nan),
        "confidence": index / clips,
    }
    names = np.array([f"class-{k % 4}" for k in index])
    results = ClipResults(100 + index, index.astype(str), names, np.where(index < 24, 1, 0), columns)
    found = choose(results, PROTOCOLS["extended-stamps"], count=8, classes=3)
    assert found["The best"] == [123, 122]
    assert found["The worst"] == [100, 101]
    assert len(found["Drawn at random"]) == 4
    by_class = found["One of each class, the weakest classes first"]
    assert [k % 4 for k in by_class] == [0, 1, 2]
    assert found["Nothing in view sounds: where the model is surest"] == [129, 128]
    every = [k for rows in found.values() for k in rows]
    assert len(every) == len(set(every))


def test_clips_of_one_picture_are_shown_together_and_nowhere_else():
    """What several sounds over one picture are about: two pictures of three clips, one of two, the rest alone."""
    index = np.arange(20)
    images = np.array(["a", "b"] * 3 + ["c", "c"] + [""] * 12)
    columns = {"pixel_ap": index / 20, "confidence": index / 20}
    boxes = np.where(index == 6, 0, 1)
    results = ClipResults(100 + index, index.astype(str), np.full(20, ""), boxes, columns, images)
    found = choose(results, PROTOCOLS["extended-stamps"], count=16, classes=0)
    together = found.pop("One picture, several sounds")
    assert sorted(together) == [100, 101, 102, 103, 104, 105], "of c only one clip sounds"
    assert together[:3] in ([100, 102, 104], [101, 103, 105])
    assert not {*together} & {k for rows in found.values() for k in rows}


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
    """No console errors, pictures and players present; measured by Chromium itself."""
    page, probed = request.getfixturevalue(which), tmp_path / "report.html"
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    options += ["--remote-debugging-port=0", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()]
    console = []
    with subprocess.Popen([CHROMIUM, *options], stderr=subprocess.PIPE, text=True) as browser:
        watchdog = threading.Timer(120, browser.kill)
        watchdog.start()
        assert browser.stderr is not None, "it is a pipe"
        for line in browser.stderr:
            console += [line] if "CONSOLE" in line else []
            if "EBORP" in line:
                break
        browser.kill()
        watchdog.cancel()
    assert len(console) == 1, console  # the probe's own line, and no error
    found = json.loads(match_in(console[0], "PROBE(.*)EBORP")[1])
    views = 2 * page.read_text().count('class="clip"')  # two sounds, or two models
    assert views >= 10
    assert found["pictures"] == found["shown"] == 2 * views  # a frame and a heat map
    assert found["durations"] == pytest.approx([3.0] * views, abs=0.05)
    assert found["lines"] >= 2
    assert not found["wide"]
