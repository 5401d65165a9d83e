"""Sound source localization by class-aware contrastive learning, as a library.

    cacl.AudioVisualContrast    the loss of the global batch, for a training loop of one's own
    cacl.evaluate               maps and boxes of any model to a protocol's numbers; Evaluator takes batches
    cacl.load                   a trained model, ready for pictures and sounds
    cacl.train                  a whole training, from a recipe

`import cacl` is cheap: what is behind a name, PyTorch included, is imported when the name is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cacl.evaluation.evaluator import Evaluator, evaluate
    from cacl.loss.module import AudioVisualContrast
    from cacl.viewing.loaded import LoadedFinder
    from cacl.world import World
    from launch.jobs.recipe import Recipe

    __version__: str

__all__ = ["AudioVisualContrast", "Evaluator", "__version__", "evaluate", "load", "train"]

_HOMES = {
    "AudioVisualContrast": "cacl.loss.module",
    "Evaluator": "cacl.evaluation.evaluator",
    "evaluate": "cacl.evaluation.evaluator",
}
"""Where a name lives that is imported when it is first used."""


def __getattr__(name: str) -> Any:
    """Import what a name stands for. Raises AttributeError for an unknown one."""
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the names at hand, imported yet or not."""
    return sorted({*globals(), *__all__})


def load(run: str | Path, which: Literal["model", "ema"] | None = None) -> LoadedFinder:
    """Return a trained model, ready for pictures and sounds of any size and length.

        finder = cacl.load("runs/demo")                        # a run directory, or a file of `cacl export`
        finder = cacl.load("tags")                             # the one without training (docs/tags.md)
        cosines = finder.map("frame.jpg", "sound.wav")         # [h, w] in -1..1
        cosines = finder.map(picture, sound, sample_rate=44100)
        finder.localize("film.mp4", "film-sound.mp4")

    Pictures and sounds are files, or arrays of any kind (`finder.map`); `print(finder)` says which model
    it is and what it was trained on. `finder.theta` is the cosine above which something sounds, as validation
    or `cacl calibrate` fitted it; None where neither did. `which` weights of a run are meant
    (default: those that its recipe has measured, `training.measured`); a file holds what was exported. Raises
    MissingLibrary (a UserError) for a model of a network whose library is not installed, and UserError where
    the run has no valid checkpoint, or the file is not an exported model or holds other weights than the ema
    that was asked for.
    """
    from cacl.extras import named_extras
    from cacl.runs import tags
    from cacl.runs.export import exported_calibrations, open_export
    from cacl.runs.load import calibrations_of, described, heard_by, open_model
    from cacl.viewing.loaded import LoadedFinder

    if str(run) == tags.NAME:
        with named_extras():
            untrained, theta = tags.open_tags()
        size, rate, duration = tags.HEARD.size, tags.HEARD.sample_rate, tags.HEARD.duration
        return LoadedFinder(
            untrained, size, rate, duration, tuple(theta), name=tags.NAME, trained_on=tags.TRAINED_ON
        )
    path = Path(run)
    with named_extras():
        model, recipe = open_export(path, which) if path.is_file() else open_model(path, which)
    heard = heard_by(recipe, str(path))
    fitted = exported_calibrations(path) if path.is_file() else calibrations_of(path, which)
    name, trained_on = described(recipe, str(path))
    return LoadedFinder(
        model,
        heard.size,
        heard.sample_rate,
        heard.duration,
        tuple(fitted),
        name=name,
        trained_on=trained_on,
    )


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    run_dir: str | Path,
    *,
    resume: bool = False,
    max_steps: int | None = None,
    init_from: str | Path | None = None,
    stop_requested: Callable[[], int] = lambda: False,
    say: Callable[[str], None] = lambda sentence: None,
    world: World | None = None,
    **changes: Mapping[str, Any],
) -> Literal["finished", "stopped", "interrupted"]:
    """Train from a recipe, as `cacl train` does, and return how it ended.

        cacl.train("demo", run_dir="runs/mine", data={"train": "data/mine"}, training={"epochs": 5})

    `recipe` is a file, the name of a recipe that comes with cacl, its values as a mapping, or a `Recipe`;
    `changes` are sections of it, laid over it key by key as a recipe lies over its `base`. A run that was
    stopped goes on with `resume`; `init_from` gives a new one the weights of a run or a .safetensors file.
    `stop_requested` is asked once a step (2 in place of True ends it as "interrupted", without a `requeue`),
    and `say` takes sentences for the user, on rank 0.

    Under torchrun or SLURM every process calls this, and is one rank; `world` names processes that have been
    joined already. Signals are the caller's. Raises UserError, one sentence, for a recipe that is wrong, or
    that does not fit its data, where the run directory is taken, and where a library is missing.
    """
    from cacl.extras import named_extras

    with named_extras():
        from launch.config import complete_recipe
        from launch.jobs.environment import joined_world
        from launch.jobs.train import train

        complete = complete_recipe(recipe, changes)
        with joined_world(complete.training.distributed_timeout, world) as joined:
            return train(
                complete,
                run_dir,
                joined,
                resume=resume,
                max_steps=max_steps,
                init_from=None if init_from is None else str(init_from),
                stop_requested=stop_requested,
                say=say,
            )


def _version() -> str:
    """Return the version of this checkout, or else of the installed package."""
    import tomllib
    from importlib.metadata import version

    checkout = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(checkout.read_text("utf-8")).get("project", {}) if checkout.is_file() else {}
    return str(project["version"]) if project.get("name") == "cacl" else version("cacl")
