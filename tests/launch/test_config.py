"""Bad input gets one clear sentence that names the key; choices are tagged; numbers are numbers (promise 10)."""

from __future__ import annotations

import resource
import subprocess
import sys
import warnings

import pytest
import yaml

import cacl as library
from cacl.errors import Remark, UserError
from cacl.training.optimization import AdamW
from launch.config import complete_recipe, find, load_recipe, override, read_recipe

RECIPE = {"data": {"train": "data/train"}}


def recipe(tmp_path, values, *overrides):
    path = tmp_path / "recipe.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return load_recipe(path, list(overrides))


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    assert (
        recipe(
            tmp_path, "data: {train: x}\noptimizer: {name: adamw, learning_rate: 1e-3}"
        ).optimizer.learning_rate
        == 1e-3
    )


def test_overrides_by_dotted_name(tmp_path):
    read = recipe(
        tmp_path,
        RECIPE | {"optimizer": {"name": "adamw", "beta1": 0.8}},
        "--optimizer.learning-rate", "1e-2", "--training.epochs=3", "--loss.similarity", "mean",
    )  # fmt: skip
    assert (read.optimizer.learning_rate, read.optimizer.beta1, read.training.epochs) == (1e-2, 0.8, 3)
    assert read.loss.similarity.name == "mean"


def test_another_choice_by_name_forgets_the_options_of_the_one_before():
    values = {"optimizer": {"name": "adamw", "beta1": 0.8}}
    assert override(values, ["--optimizer", "sgd"]) == {"optimizer": {"name": "sgd"}}
    assert override(values, ["--optimizer.name", "sgd"]) == {"optimizer": {"name": "sgd"}}
    assert values == {"optimizer": {"name": "adamw", "beta1": 0.8}}


WRONG = {
    "unknown key": ({"data": {"train": "x", "trian": 1}}, [], "data.trian: unknown key"),
    "unknown section": (RECIPE | {"los": 1}, [], "los: unknown key"),
    "missing key": ({"data": {}}, [], "data.train: missing"),
    "wrong type": (RECIPE | {"training": {"epochs": "many"}}, [], "training.epochs: .*got 'many'"),
    "fraction": (RECIPE | {"training": {"epochs": 1.5}}, [], "training.epochs: .*got 1.5"),
    "unknown choice": (RECIPE | {"loss": {"similarity": {"name": "mix"}}}, [], "loss.similarity.name: there is no 'mix'"),
    "choice without name": (RECIPE | {"loss": {"similarity": "max"}}, [], "loss.similarity: expected a mapping"),
    "key of another choice": (RECIPE | {"optimizer": {"name": "sgd", "beta1": 0.9}}, [], "optimizer.beta1: unknown key"),
    "override without value": (RECIPE, ["--training.epochs"], "--training.epochs: its value is missing"),
    "override of nothing": (RECIPE, ["training.epochs"], "'training.epochs' is not an option"),
    "override below a number": (RECIPE | {"training": {"epochs": 1}}, ["--training.epochs.x", "1"], "which has no keys"),
    "not YAML": ("data: [", [], "recipe.yaml, line 1: not YAML"),
    "a key twice": ("data: {train: x}\nmodel: {}\ndata: {train: y}", [], "line 3: .*the key data stands .* second time"),
    "value that is not YAML": (RECIPE, ["--training.epochs", "[1"], r"--training.epochs \[1.*not YAML"),
    "fields that do not fit": (RECIPE, ["--loss.temperature", "0"], "loss: temperature must be above 0, got 0.0$"),
    "count below 1": (RECIPE, ["--model.dimension", "0"], "model.dimension: .*greater than 0, got 0"),
    "no epochs": (RECIPE, ["--training.epochs", "0"], "training.epochs: .*greater than 0, got 0"),
    "micro-batch of nothing": (RECIPE, ["--training.micro-batch-size=0"], "training.micro_batch_size: .*got 0"),
    "rate that is no number": (RECIPE, ["--optimizer.learning-rate", "nan"], "optimizer.learning_rate: .*got 'nan'"),
    "one view for a loss of two": (
        {**RECIPE, "loss": {"positives": {"name": "own-clip"}, "objective": {"name": "sspl"}}},
        [],
        "data.augmentation.views: 1, but loss.objective sspl compares 2 of each frame; set it to 2",
    ),
    "a rate of no part": (
        {**RECIPE, "optimizer": {"name": "adamw", "rates": {"head": 0.1}}},
        [],
        "optimizer.rates.head.*: input should be 'image', 'audio' or 'loss', got 'head'",
    ),
    "two views for a loss of one": (
        RECIPE,
        ["--data.augmentation.views", "2"],
        "data.augmentation.views: 2, but loss.objective contrast compares 1 of each frame; set it to 1",
    ),
    "sound of two rates": (RECIPE, ["--data.augmentation.sample-rate", "8000"], "model.features.rate: 16000 Hz, but .* 8000"),
    "no such share": (RECIPE, ["--data.augmentation.flip", "3"], r"recipe.yaml with --data.augmentation.flip 3: .*flip"),
    "no such protocol": (RECIPE, ["--data.protocol", "stamp"], r"recipe.yaml with .*: data.protocol: there is no .*did you mean stamps"),
    "not a mapping": ("- 1", [], "a recipe is a mapping"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "overrides", "message"), WRONG.values(), ids=WRONG.keys())
def test_one_sentence_names_file_and_key(tmp_path, values, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        recipe(tmp_path, values, *overrides)
    assert "\n" not in str(caught.value)


def cacl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launch.main", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", [["config", "nowhere.yaml"], ["pack"], ["trian"], ["doctor", "--what"]])
def test_bad_input_exits_2_with_one_line(words):
    answer = cacl(*words)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1 and words[0] in answer.stderr and "Traceback" not in answer.stderr


def processor_seconds() -> float:
    """Return what the ended children have used: unlike the clock, no matter how busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_there_in_under_a_second_without_torch():
    started = processor_seconds()
    answer = cacl("--help")
    assert answer.returncode == 0 and "train" in answer.stdout
    assert processor_seconds() - started < 1
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, launch.main as m; m.main(['--help']); print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert loaded.stdout.strip().endswith("False")


def test_the_version_is_printed():
    answer = cacl("--version")
    assert answer.returncode == 0 and answer.stdout.split() == ["cacl", library.__version__]


def test_config_prints_the_resolved_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    answer = cacl("config", str(path), "--training.seed", "5")
    values = yaml.safe_load(answer.stdout)
    assert values["training"]["seed"] == 5 and values["engine"]["name"] == "ddp"


def test_recipes_that_come_along_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("slavc", []) == load_recipe(find("slavc").resolve(), [])
    (tmp_path / "slavc").write_text("data: {train: mine}")
    assert load_recipe("slavc", []).data.train == "mine", "a file of one's own comes first"
    with pytest.raises(
        UserError, match=r"^slavk: no such file, and the recipes that come with cacl are class-aware, demo, "
    ):
        load_recipe("slavk", [])


BASE = {
    "data": {"train": "data/train", "workers": 3},
    "loss": {"similarity": {"name": "log-sum-exp", "sharpness": 4.0}, "temperature": 0.1},
    "optimizer": {"name": "adamw", "learning_rate": 2e-3, "beta1": 0.8},
}


def write(path, values):
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_recipe_on_a_base_holds_what_differs(tmp_path):
    write(tmp_path / "bases" / "frame.yaml", BASE)
    write(tmp_path / "bases" / "middle.yaml", {"base": "frame.yaml", "optimizer": {"beta1": 0.7}})
    top = write(
        tmp_path / "top.yaml",
        {
            "base": "bases/middle.yaml",
            "loss": {"similarity": {"name": "max"}},
            "optimizer": {"name": "adamw", "beta2": 0.9},
        },
    )
    read = load_recipe(top, ["--data.workers", "1"])
    assert (read.data.train, read.data.workers, read.loss.temperature) == ("data/train", 1, 0.1)
    assert isinstance(read.optimizer, AdamW)
    assert (read.optimizer.learning_rate, read.optimizer.beta1, read.optimizer.beta2) == (2e-3, 0.7, 0.9)
    assert read_recipe(top)["loss"]["similarity"] == {"name": "max"}, (
        "another choice forgets the one before it"
    )


def test_a_base_is_found_by_the_name_of_a_recipe_that_comes_along_or_next_to_the_file(tmp_path):
    mine = write(tmp_path / "mine.yaml", {"base": "slavc", "training": {"epochs": 3}})
    assert load_recipe(mine, []) == load_recipe("slavc", ["--training.epochs", "3"])
    write(tmp_path / "slavc", BASE)
    assert load_recipe(mine, []).data.workers == 3


WRONG_BASES = {
    "not there": ({"base": "nowhere.yaml"}, r"mine.yaml: base: nowhere.yaml: No such file"),
    "unknown name": (
        {"base": "slavk"},
        r"mine.yaml: base: slavk: no such file, and the recipes that come with cacl",
    ),
    "no name": (
        {"base": {"name": "slavc"}},
        r"mine.yaml: base: expected the name or path of a recipe, got \{",
    ),
    "itself": ({"base": "mine.yaml"}, r"mine.yaml: base: .*each other's base \(mine.yaml → mine.yaml\)"),
    "unknown key": ({"base": "slavc", "los": {}}, r"mine.yaml: los: unknown key"),
}


@pytest.mark.parametrize(("values", "sentence"), WRONG_BASES.values(), ids=WRONG_BASES.keys())
def test_a_wrong_base_is_one_sentence(tmp_path, values, sentence):
    with pytest.raises(UserError, match=sentence):
        load_recipe(write(tmp_path / "mine.yaml", values), [])


def test_config_prints_a_recipe_with_its_base(tmp_path):
    mine = write(tmp_path / "mine.yaml", {"base": "slavc"})
    printed = yaml.safe_load(cacl("config", str(mine)).stdout)
    assert printed == yaml.safe_load(cacl("config", "slavc").stdout) and printed["model"]["heads"] == 2


@pytest.mark.parametrize("recipe", sorted(find("demo").parent.glob("*.yaml")))
def test_every_recipe_that_comes_along_chooses_by_clips_of_their_own(recipe):
    """Promise 11: neither those that are trained on nor those that are tested on."""
    data = load_recipe(recipe, []).data
    assert data.validation is not None and data.validation not in (data.train, data.test)


def test_own_training_clips_are_never_measured_on_the_clips_of_an_example(tmp_path):
    """Promise 11: whoever names own clips has no validation and no test clips, until they are named."""
    mine = write(tmp_path / "mine.yaml", {"base": "demo", "data": {"train": "data/mine", "labels": None}})
    both = "data.test data/scenes/test and data.validation data/scenes/validation"
    with pytest.warns(
        Remark, match=f"mine.yaml: data.train is its own, so {both} of the recipe below it are left out"
    ):
        read = load_recipe(mine, [])
    assert (read.data.test, read.data.validation, read.data.protocol) == (None, None, "scenes")
    with pytest.warns(Remark, match="data.test data/scenes/test of the recipe below it is left out"):
        read = load_recipe("demo", ["--data.train=data/mine", "--data.validation", "held"])
    assert (read.data.test, read.data.validation) == (None, "held")
    with pytest.warns(Remark, match=both):
        assert complete_recipe("demo", {"data": {"train": "data/mine"}}).data.test is None
    late = write(tmp_path / "late.yaml", {"base": "demo", "training": {"epochs": 2}})
    assert load_recipe(late, []).data.test == "data/scenes/test", "the demo on its own clips"
    with pytest.warns(Remark):
        assert load_recipe(late, ["--data.train", "data/mine"]).data.test is None
    named = {"train": "data/mine", "test": "data/scenes/test", "validation": None}
    own = write(tmp_path / "own.yaml", {"base": "demo", "data": named})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_recipe(own, []).data.test == "data/scenes/test", "who names them has them"
        assert load_recipe(own, ["--data.train", "data/other"]).data.test == "data/scenes/test"
