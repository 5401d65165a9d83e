"""The way from a run directory back to its model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cacl.errors import UserError, brief
from cacl.limits import Hertz, Pixels, Seconds
from cacl.loss import LossOptions
from cacl.model.localizer import Localizer, ModelOptions
from cacl.options import Options, parse
from cacl.runs import calibration, checkpoint
from cacl.runs.directory import Run

CHOICE = "recall_at_1"
"""The validation figure by which the best checkpoint is chosen."""


def build_model(model: ModelOptions, loss: LossOptions, seed: int) -> Localizer:
    """Return the model with weights drawn from `seed`, and with what the loss has it learn."""
    return Localizer(model, loss.scalars(), seed=seed, head=loss.head)


def measured_weights(run: Run) -> Literal["model", "ema"]:
    """Return which weights of a run its recipe has measured: the model's, or those of its moving average."""
    chosen = section(run.recipe(), str(run.recipe_file), "training").get("measured", "model")
    if chosen not in ("model", "ema"):
        raise UserError(f"{run.recipe_file}: training.measured: must be model or ema, not {brief(chosen)}")
    return chosen


@dataclass(frozen=True)
class Heard(Options):
    """What a model sees and hears at once, as its recipe's data.augmentation says."""

    size: Pixels
    sample_rate: Hertz
    duration: Seconds


def heard_by(recipe: dict[str, Any], source: str) -> Heard:
    """Return what the model of a recipe is given. Raises UserError where the recipe does not say it."""
    given = section(recipe, source, "data", "augmentation")
    known = {field.name: given[field.name] for field in fields(Heard) if field.name in given}
    return parse(Heard, known, f"{source}: data.augmentation")


def described(recipe: dict[str, Any], source: str) -> tuple[str, str]:
    """Return a recipe's model and training data in a few words, "" for data that it does not name."""
    towers = (section(recipe, source, "model", tower).get("name") for tower in ("image", "audio"))
    trained = section(recipe, source, "data").get("train")
    listed = trained if isinstance(trained, list | tuple) else [trained]
    named = [one.get("path") if isinstance(one, dict) else one for one in listed]
    return f"{source}, {' and '.join(map(str, towers))}", ", ".join(str(one) for one in named if one)


def weights_file(folder: Path, which: Literal["model", "ema"]) -> Path:
    """Return the file of a checkpoint's weights. Raises UserError where it holds no moving average."""
    file = folder / f"{which}.safetensors"
    if not file.exists():
        raise UserError(
            f"{folder}: holds no {which} weights; set training.ema_decay before training, or take the model's"
        )
    return file


def section(recipe: dict[str, Any], source: str, *path: str) -> dict[str, Any]:
    """Return a section of a recipe's plain values, such as ("data", "augmentation").

    Raises UserError, in which `source` names the recipe, where it is none.
    """
    found: Any = recipe
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{source}: {'.'.join(path)}: missing, so this is not a whole recipe; restore it")
    return found


def find_checkpoint(run: Run, chosen: str) -> Path | None:
    """Return a run's checkpoint, checked: `latest`, `best` by validation, or a name such as `step-100`.

    None where a run has no valid one yet. Raises UserError where the one that is named is not there, damaged,
    or not known to be the best.
    """
    if chosen == "latest":
        return checkpoint.latest_valid(run.checkpoints)
    if chosen != "best":
        return checkpoint.named(run.checkpoints, chosen)
    found = checkpoint.best(run.checkpoints, CHOICE)
    if found is None or checkpoint.damage(found):
        raise UserError(f"{run.checkpoints}: no valid checkpoint with a validation figure; use the latest")
    return found


def load_weights(model: Localizer, path: str | Path) -> str:
    """Give `model` the weights of a run's newest checkpoint or of a .safetensors file, and nothing else.

    Returns a sentence that lists what did not match by name and shape. Raises UserError where nothing did.
    """
    path = Path(path)
    if path.is_dir():
        found = checkpoint.latest_valid(path / "checkpoints")
        if found is None:
            raise UserError(f"{path}: holds no valid checkpoint; name a run directory or a .safetensors file")
        path = found / "model.safetensors"
    tensors = checkpoint.read_tensors(path)
    own = model.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        raise UserError(f"{path}: no tensor of it fits the recipe's model by name and shape")
    model.load_state_dict(fitting, strict=False)
    left = [f"not in the file: {', '.join(sorted(own.keys() - tensors.keys())) or 'nothing'}"]
    left.append(f"not in the model: {', '.join(sorted(tensors.keys() - own.keys())) or 'nothing'}")
    odd = sorted(name for name in own.keys() & tensors.keys() if name not in fitting)
    left.append(f"of another shape: {', '.join(odd) or 'nothing'}")
    return f"{len(fitting)} of {len(own)} tensors matched; " + "; ".join(left)


def open_model(
    folder: str | Path,
    which: Literal["model", "ema", "untrained"] | None = None,
    chosen: str = "latest",
) -> tuple[Localizer, dict[str, Any]]:
    """Return the model of a run, in eval mode on the CPU, and the run's recipe as plain values.

    `which` weights are taken is the recipe's choice unless it is said; `chosen` is `latest`, `best` by
    validation, or a checkpoint's name.

    `untrained` is the same architecture from the same seed with no step taken. Raises UserError where the run
    has no valid checkpoint.
    """
    run = Run(folder)
    recipe, source = run.recipe(), str(run.recipe_file)
    if which == "untrained":
        return rebuild(recipe, source, None), recipe
    which = which or measured_weights(run)
    step_folder = find_checkpoint(run, chosen)
    if step_folder is None:
        raise UserError(f"{run.checkpoints}: no valid checkpoint; train first, or resume the training")
    return rebuild(recipe, source, checkpoint.read_tensors(weights_file(step_folder, which))), recipe


def calibrations_of(
    folder: str | Path, which: Literal["model", "ema"] | None = None
) -> list[calibration.Calibration]:
    """Return what was fitted to the weights that `open_model` takes of a run's newest checkpoint."""
    run = Run(folder)
    if not calibration.folder(run).is_dir():
        return []
    step = find_checkpoint(run, "latest")
    return calibration.read_all(run, step.name, which or measured_weights(run)) if step else []


def rebuild(recipe: dict[str, Any], source: str, tensors: dict[str, Tensor] | None) -> Localizer:
    """Return the model of a recipe in eval mode on the CPU, with `tensors` as all its weights.

    Where they are None it is as it was before the first step. `source` names the recipe in messages. Raises
    UserError where the tensors are another model's.
    """
    model, seed = section(recipe, source, "model"), section(recipe, source, "training").get("seed")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise UserError(f"{source}: training.seed: must be a whole number, not {brief(seed)}")
    if tensors is not None:
        model = {**model, **_without_files(recipe, source)}
    options = parse(ModelOptions, model, f"{source}: model")
    loss = parse(LossOptions, section(recipe, source, "loss"), f"{source}: loss")
    localizer = build_model(options, loss, seed)
    if tensors is not None:
        try:
            localizer.load_state_dict(tensors)
        except RuntimeError as error:
            sentence = " ".join(str(error).split())
            raise UserError(f"{source}: the weights are not those of its recipe: {sentence}") from error
    return localizer.eval()


def _without_files(recipe: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a recipe's towers with random weights: a run's hold them too, and their files may be gone."""
    towers = {name: section(recipe, source, "model", name) for name in ("image", "audio")}
    return {name: {**tower, "weights": "none"} for name, tower in towers.items() if "weights" in tower}
