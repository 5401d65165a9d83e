"""A trained model as one file: its weights in safetensors, its recipe in that file's metadata.

Nothing else is needed to use it: no run directory, no data, not the file of the trunk's ImageNet weights.
What was fitted to these weights, the threshold θ, goes with them, and so does what they were measured to be.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cacl.errors import UserError, brief
from cacl.files import regular, written
from cacl.model.localizer import Localizer
from cacl.options import plain
from cacl.runs import calibration, checkpoint
from cacl.runs.card import Card, results_of
from cacl.runs.directory import Run
from cacl.runs.load import find_checkpoint, measured_weights, rebuild, weights_file
from cacl.runs.renamed import rename_keys

FORMAT_VERSION = 1
_KEY = "cacl"
"""Name of our entry in the metadata, JSON of `about` in `export`."""


def export(
    run: Run,
    file: Path,
    weights: Literal["model", "ema"] | None = None,
    chosen: str = "latest",
    license: str = "",
    version: str = "",
) -> int:
    """Write a checkpoint's model and the run's recipe into `file`, whole or not at all; return its step.

    `weights` are those that the recipe has measured unless they are named; `license` says what others may do
    with them, and `version` which cacl writes. Raises UserError where the run has no such checkpoint, or no
    such weights in it.
    """
    recipe, weights = run.recipe(), weights or measured_weights(run)
    folder = find_checkpoint(run, chosen)
    if folder is None:
        raise UserError(f"{run.checkpoints}: no valid checkpoint; train first, or resume the training")
    source = weights_file(folder, weights)
    state = checkpoint.read_state(folder)
    day, results = f"{datetime.now(UTC):%Y-%m-%d}", results_of(run, folder.name, weights)
    card = Card(day, version, license, results)
    about = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "weights": weights,
        "step": state["step"],
        "identity": state.get("identity"),
        "calibrations": [one.plain() for one in calibration.read_all(run, folder.name, weights)],
        "card": plain(card),
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written(file) as partial:
            save_file(checkpoint.read_tensors(source), partial, metadata={_KEY: json.dumps(about)})
            partial.chmod(
                0o666 & ~_umask()
            )  # safetensors keeps files for their owner, and these are to be given
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be written ({error}); name another place", exit_code=1) from error
    return state["step"]


def _umask() -> int:
    """Return which permissions new files of this process lack."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read_about(file: Path) -> dict[str, Any]:
    """Return what an exported file says of itself: recipe, weights, step, identity of its training data.

    Raises UserError where it is not a file that `export` wrote, or one of another format_version.
    """
    try:
        with safe_open(regular(file, "name a whole .safetensors file"), framework="pt") as content:
            about = json.loads((content.metadata() or {})[_KEY])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not an exported model; make one with: cacl export --run RUN") from error
    version = about.get("format_version") if isinstance(about, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{file}: its format_version is {brief(version)}, this cacl reads {FORMAT_VERSION}; "
            "export it again with this version"
        )
    if not isinstance(about.get("recipe"), dict) or about.get("weights") not in ("model", "ema"):
        raise UserError(f"{file}: its metadata is damaged; export it again")
    try:
        return {**about, "recipe": rename_keys(about["recipe"], str(file))}
    except RecursionError as error:
        raise UserError(f"{file}: its metadata is nested too deeply; export it again") from error


def exported_calibrations(file: Path) -> list[calibration.Calibration]:
    """Return what was fitted to an exported file's weights; nothing in one of an earlier cacl.

    Raises UserError as `read_about` does.
    """
    listed = read_about(file).get("calibrations", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise UserError(f"{file}: its metadata is damaged; export it again")
    return [calibration.read(one, f"{file}: calibrations") for one in listed]


def open_export(file: Path, which: Literal["model", "ema"] | None = None) -> tuple[Localizer, dict[str, Any]]:
    """Return the model of an exported file, in eval mode on the CPU, and its recipe as plain values.

    Raises UserError as `read_about` does, and where `ema` is wanted and the file holds the model's weights.
    """
    about = read_about(file)
    if which == "ema" and about["weights"] != "ema":
        raise UserError(f"{file}: holds the weights of the {about['weights']}; export it with --weights ema")
    return rebuild(about["recipe"], str(file), checkpoint.read_tensors(file)), about["recipe"]
