"""The way from a run directory back to its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from torch import Tensor

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.model.localizer import Localizer, ModelOptions
from cacl.options import parse
from cacl.runs import checkpoint
from cacl.runs.directory import Run

CHOICE = "recall_at_1"
"""The validation figure by which the best checkpoint is chosen."""


def build_model(model: ModelOptions, loss: LossOptions, seed: int) -> Localizer:
    """Return the model with weights drawn from `seed`, and with what the loss has it learn."""
    return Localizer(model, loss.scalars(), seed=seed, head=loss.head)


def measured_weights(run: Run) -> Literal["model", "ema"]:
    """Return which weights of a run its recipe has measured: the model's, or those of its moving average."""
    chosen: Literal["model", "ema"] = run.recipe()["training"].get("measured", "model")
    return chosen


def find_checkpoint(run: Run, chosen: Literal["latest", "best"]) -> Path | None:
    """Return a run's newest valid checkpoint, or its best by validation; None where there is none."""
    if chosen == "latest":
        return checkpoint.latest_valid(run.checkpoints)
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
    try:
        tensors = checkpoint.read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: {error}; name a run directory or a .safetensors file") from error
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
    chosen: Literal["latest", "best"] = "latest",
) -> tuple[Localizer, dict[str, Any]]:
    """Return the model of a run, in eval mode on the CPU, and the run's recipe as plain values.

    `which` weights are taken is the recipe's choice unless it is said; `chosen` is the newest checkpoint or
    the best by validation.

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
    return rebuild(recipe, source, checkpoint.read_tensors(step_folder / f"{which}.safetensors")), recipe


def rebuild(recipe: dict[str, Any], source: str, tensors: dict[str, Tensor] | None) -> Localizer:
    """Return the model of a recipe in eval mode on the CPU, with `tensors` as all its weights.

    Where they are None it is as it was before the first step. `source` names the recipe in messages. Raises
    UserError where the tensors are another model's.
    """
    model = recipe["model"]
    if tensors is not None and "weights" in model["image"]:  # they hold the trunk too; its file may be gone
        model = {**model, "image": {**model["image"], "weights": "none"}}
    options = parse(ModelOptions, model, f"{source}: model")
    loss = parse(LossOptions, recipe["loss"], f"{source}: loss")
    localizer = build_model(options, loss, recipe["training"]["seed"])
    if tensors is not None:
        try:
            localizer.load_state_dict(tensors)
        except RuntimeError as error:
            sentence = " ".join(str(error).split())
            raise UserError(f"{source}: the weights are not those of its recipe: {sentence}") from error
    return localizer.eval()
