"""Promise 17: the library's door, cheap to open, on systems that lack some modules, as the pages show it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cacl
from cacl.errors import UserError
from cacl.extras import EXTRA_OF
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.shards.films import bunny

ROOT = Path(__file__).parents[2]


def run_python(code: str, *words: str) -> str:
    """Return what a fresh process prints."""
    command = [sys.executable, "-c", code, *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def blocks_of(page: str, heading: str) -> list[str]:
    """Return the fenced Python blocks of a section."""
    text = (ROOT / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def imports_of(path: Path) -> set[str]:
    """Return the libraries whose modules a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(requirements: list[str]) -> set[str]:
    """Return the names of the packages that are asked for."""
    return {normalized(re.split(r"[\[<>=!~; ]", line)[0]) for line in requirements}


def extra_of(project: dict[str, Any], extra: str) -> set[str]:
    """Return the packages that an extra brings, those of its own extras included."""
    found = set()
    for line in project["optional-dependencies"][extra]:
        if line.startswith("cacl["):
            found |= {name for inner in line[5:-1].split(",") for name in extra_of(project, inner)}
        else:
            found |= names_in([line])
    return found


def block_with(word: str) -> str:
    """Return the one block of the README's section on the library that holds a word."""
    (block,) = (block for block in blocks_of("README.md", "As a library") if word in block)
    return block


def test_importing_the_library_loads_no_library_of_others():
    heavy = "torch", "numpy", "pydantic", "launch", "shards", "importlib.metadata"
    code = (
        f"import sys, cacl; print([name for name in {heavy} if name in sys.modules and name not in before])"
    )
    assert run_python(f"import sys; before = set(sys.modules); {code}").strip() == "[]"


def test_every_name_of_the_door_is_there_and_no_other():
    assert set(cacl.__all__) <= set(dir(cacl))
    for name in cacl.__all__:
        assert getattr(cacl, name) is not None
    assert cacl.AudioVisualContrast.__module__ == "cacl.loss.module"
    with pytest.raises(AttributeError, match="module 'cacl' has no attribute 'AudioVisual'"):
        cacl.AudioVisual  # noqa: B018


@pytest.mark.parametrize(("name", "version"), [("cacl", "9.8.7"), ("other", None), (None, None)])
def test_the_version_is_that_of_the_checkout_else_of_the_installed_package(tmp_path, name, version):
    """The code lies next to a pyproject of its own, of another project, or of none."""
    (tmp_path / "cacl").symlink_to(ROOT / "cacl")
    if name:
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "9.8.7"\n')
    code = "import sys; sys.path.insert(0, sys.argv[1]); import cacl; print(cacl.__file__, cacl.__version__)"
    file, _, found = run_python(f"import os; os.chdir('/'); {code}", str(tmp_path)).strip().rpartition(" ")
    assert file.startswith(str(tmp_path)) and found == (version or importlib.metadata.version("cacl"))
    assert cacl.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {cacl.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {cacl.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_the_package_says_that_it_is_typed():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["cacl"]
    assert "py.typed" in data and (ROOT / "cacl" / "py.typed").is_file()


HIDE = """
import sys
for name in sys.argv[2].split():
    assert name not in sys.modules
    sys.modules[name] = None  # an import of it raises, as it does where it is missing
"""
USED = """
import cacl, numpy as np, torch
loss = cacl.AudioVisualContrast()(torch.randn(4, 9, 8), torch.randn(4, 8), torch.tensor([0, 0, 1, 2]))
assert loss > 0
numbers = cacl.evaluate(np.random.rand(2, 7, 7), [[(0, 0, 0.5, 1)], []], protocol="extended-vggss")
assert 0 <= numbers["auc"] <= 1
finder = cacl.load(sys.argv[1])
picture, audio = np.zeros((60, 80, 3), np.uint8), np.random.rand(16000).astype("float32")
assert finder.map(picture, audio, finder.sample_rate).ndim == 2
print("used")
"""
LOCALIZED = """
from cacl.viewing.localize import localize_picture
assert localize_picture(finder, picture, audio)[0].size[0] > 0
from launch.jobs.localize import localize
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """A run of two steps, trained through the door."""
    from tests.launch.tiny import write_recipe

    folder = tmp_path_factory.mktemp("door")
    recipe = write_recipe(folder, data)
    said: list[str] = []
    assert cacl.train(recipe, run_dir=folder / "run", max_steps=2, say=said.append) == "finished"
    assert said[0].startswith("training from the start to step 2 on 1 rank(s)")
    return folder / "run"


def test_loss_evaluator_load_and_localize_work_without_fcntl_and_resource(run):
    assert run_python(HIDE + USED + LOCALIZED, str(run), "fcntl resource").strip() == "used"


def test_loss_evaluator_and_load_work_without_the_libraries_of_the_extras(run):
    assert run_python(HIDE + USED, str(run), " ".join([*EXTRA_OF, "numba", "webdataset"])).strip() == "used"


def test_every_import_is_of_the_standard_library_of_a_dependency_or_of_its_extra():
    ours = {"cacl", "shards", "launch", "slurm"}
    imported = {
        library
        for package in ours
        for path in (ROOT / package).rglob("*.py")
        for library in imports_of(path)
        if library not in ours | set(sys.stdlib_module_names)
    }
    own = {name: set(distributions) for name, distributions in packages_distributions().items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = names_in(project["dependencies"]) | {"triton"}  # torch brings it where it runs
    for library in imported:
        extra = EXTRA_OF.get(library, "eval" if library == "numba" else None)
        installed = needed if extra is None else extra_of(project, extra)
        assert {normalized(name) for name in own[library]} & installed, (library, extra)
    assert set(EXTRA_OF) <= imported | {"boto3", "pandas", "s3fs"}, "the last three are imported by libraries"


def test_all_is_truly_all():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = {name for extra in project["optional-dependencies"] for name in extra_of(project, extra)}
    assert extra_of(project, "all") == every


@pytest.mark.parametrize(
    ("library", "words", "sentence"),
    [
        (
            "av",
            ["pack", "videos", "--root", "FILMS", "--out", "OUT"],
            "cacl pack: av is not installed; in cacl's folder: pip install '.[data]'\n",
        ),
        (
            "wandb",
            ["train", "RECIPE", "--run-dir", "OUT", "--training.log", "[wandb]"],
            "training.log: wandb is not installed; in cacl's folder: pip install '.[wandb]'\n",
        ),
        ("timm", ["config", "demo"], ""),
    ],
)
def test_a_missing_library_is_one_sentence_and_names_its_extra(library, words, sentence, run, tmp_path):
    """Where nothing needs the library, nothing is said of it; a worker process tells its parent."""
    missing = f"raise ModuleNotFoundError('No module named {library}', name={library!r})"
    (tmp_path / f"{library}.py").write_text(missing)
    places = {"OUT": tmp_path / "out", "RECIPE": run.parent / "tiny.yaml", "FILMS": bunny().parent}
    command = [sys.executable, "-m", "launch.main", *(str(places.get(word, word)) for word in words)]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert answer.returncode == (2 if sentence else 0), answer.stderr
    assert answer.stderr.endswith(sentence) and "Traceback" not in answer.stderr


def test_train_takes_a_file_a_mapping_or_a_recipe_with_changes(run, data, tmp_path):
    from launch.config import complete_recipe, read_recipe

    file = run.parent / "tiny.yaml"
    changes = {"training": {"epochs": 1, "seed": 7}, "loss": {"objective": {"name": "supcon"}}}
    whole = complete_recipe(file, changes)
    assert (whole.training.seed, whole.loss.objective.name, whole.loss.similarity.name) == (
        7,
        "supcon",
        "max",
    )
    assert (
        complete_recipe(read_recipe(file), changes)
        == whole
        == complete_recipe(complete_recipe(file), changes)
    )
    assert cacl.train(whole, tmp_path / "a", max_steps=1) == "finished"
    assert (
        cacl.train(read_recipe(file), run_dir=tmp_path / "b", max_steps=1, training={"seed": 3}) == "finished"
    )
    assert cacl.load(tmp_path / "b").sample_rate == 16000
    with pytest.raises(UserError, match=r"tiny.yaml with trainig: trainig: unknown key"):
        cacl.train(file, run_dir=tmp_path / "c", trainig={"seed": 3})
    with pytest.raises(UserError, match="holds a run already"):
        cacl.train(file, run_dir=tmp_path / "b")
    assert (
        cacl.train(file, run_dir=tmp_path / "b", resume=True, max_steps=2, training={"seed": 3}) == "finished"
    )


def train_on_rank(world: World, recipe: str, run_dir: str) -> tuple[str, bool]:
    outcome = cacl.train(recipe, run_dir=run_dir, max_steps=1)
    return outcome, torch.distributed.is_initialized()


def test_train_takes_the_processes_that_are_joined_and_leaves_them(run, tmp_path):
    recipe = str(run.parent / "tiny.yaml")
    assert run_ranks(2, train_on_rank, recipe, str(tmp_path / "two")) == [("finished", True)] * 2
    assert '"world_size": 2' in (tmp_path / "two" / "train.jsonl").read_text()


class Pooled(torch.nn.Module):
    """Vectors of frames [n, 3, 8, 8] and waveforms [n, 16]: any model."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.image, self.audio = torch.nn.Conv2d(3, 6, 2, 2), torch.nn.Linear(16, 6)

    def forward(self, frames, waveforms):
        return self.image(frames).flatten(2).transpose(1, 2), self.audio(waveforms)


def run_loop(world: World, block: str, shares: tuple[int, ...]) -> list[torch.Tensor]:
    """Run the page's loop on this rank's rows of three batches, and return the weights."""
    rows = slice(sum(shares[: world.rank]), sum(shares[: world.rank + 1]))
    loader = []
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        frames, waveforms = (
            torch.randn(8, 3, 8, 8, generator=generator),
            torch.randn(8, 16, generator=generator),
        )
        loader.append((frames[rows], waveforms[rows], torch.randint(-1, 3, (8,), generator=generator)[rows]))
    plain = Pooled()
    model = plain if world.size == 1 else torch.nn.parallel.DistributedDataParallel(plain)
    exec(block, {"model": model, "loader": loader})
    return [parameter.detach() for parameter in plain.parameters()]


@pytest.mark.parametrize("shares", [(4, 4), (5, 3)], ids=str)
def test_the_loop_of_the_readme_ends_with_the_same_weights_on_one_rank_and_on_two(shares):
    block = block_with("AudioVisualContrast")
    alone = run_loop(World(), block, (8,))
    assert not torch.equal(alone[0], Pooled().image.weight)
    for found in run_ranks(2, run_loop, block, shares):
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_the_evaluator_of_the_readme_measures_maps_of_ones_own():
    names: dict[str, Any] = {"maps": np.random.default_rng(0).normal(size=(3, 14, 14))}
    exec(block_with("evaluate"), names)
    numbers = names["numbers"]
    assert 0 <= numbers["ciou"] <= 1 and 0 <= numbers["ap"] <= 1


def test_the_loader_of_the_readme_reads_packed_clips(data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/mine").symlink_to(data)
    names: dict[str, Any] = {}
    exec(block_with("training_batches"), names)
    assert names["batch"].images.shape[1:] == (3, 224, 224) and names["batch"].valid.all()


def test_the_pieces_of_the_readme_are_under_ten_lines_each():
    blocks = blocks_of("README.md", "As a library")
    assert len(blocks) == 3
    for block in blocks:
        assert len([line for line in block.splitlines() if line.strip()]) < 10, block
