"""The run directory: everything that a training leaves behind, and the way back from it to a model.

recipe.yaml  environment.json  train.jsonl  requeue  lock
checkpoints/step-N/{model,ema}.safetensors, state.json, engine/, hashes.json
evaluation/<protocol>/{clips.parquet, metrics.json}  metrics.json  report.html
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import yaml
from safetensors import SafetensorError
from torch import Tensor

from cacl import checkpoint
from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.model import Localizer, ModelOptions
from cacl.options import parse

FORMAT_VERSION = 1
CHOICE = "recall_at_1"
"""The validation figure by which the best checkpoint is chosen."""


class Run:
    """A run directory. Files are written by rank 0 alone."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.recipe_file = self.folder / "recipe.yaml"
        self.log_file = self.folder / "train.jsonl"
        self.requeue_file = self.folder / "requeue"
        self.checkpoints = self.folder / "checkpoints"
        self._lock: IO[str] | None = None

    def is_used(self) -> bool:
        """Say whether a training has been started here."""
        return self.recipe_file.exists()

    def claim(self) -> None:
        """Keep other trainings out until `release` or the end of this process, however it ends.

        The lock is the kernel's (POSIX), on network file systems that have locks that of all nodes. Raises
        UserError where another process holds it.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("a+")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return  # a file system without locks
            self._lock.seek(0)
            holder = self._lock.read().strip()
            self.release()
            raise UserError(
                f"{self.folder}: another training writes here ({holder}); wait for its end, or name another "
                "--run-dir"
            ) from error
        with self._writing():
            self._lock.truncate(0)
            self._lock.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
            self._lock.flush()

    def release(self) -> None:
        """Let other trainings in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def create(self, recipe: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write the resolved recipe and the environment of this start."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "environment.json", {"format_version": FORMAT_VERSION, **environment})
            write_text(self.recipe_file, yaml.safe_dump(recipe, sort_keys=False))

    def recipe(self) -> dict[str, Any]:
        """Return the recipe as plain values. Raises UserError where there is none."""
        if not self.recipe_file.exists():
            raise UserError(f"{self.folder}: not a run directory, it has no recipe.yaml")
        values = yaml.safe_load(self.recipe_file.read_text())
        if not isinstance(values, dict):
            raise UserError(f"{self.recipe_file}: not a recipe; restore it from the recipe that was trained")
        return values

    def log(self, record: dict[str, Any]) -> None:
        """Append one JSON line to train.jsonl."""
        with self._writing(), self.log_file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Around writing: a full disk or a read-only folder is one sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error}); make room or mend the folder, then go on with "
                "--resume",
                exit_code=1,
            ) from error

    def forget_after(self, step: int) -> None:
        """Drop log lines of steps after `step`, which will be taken again; a torn last line goes too."""
        if self.log_file.exists():
            kept = [line for line in self.records() if line["step"] <= step]
            write_text(self.log_file, "".join(json.dumps(line) + "\n" for line in kept))

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of train.jsonl that are whole."""
        lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return records

    def ask_requeue(self, wanted: bool) -> None:
        """Leave or remove the marker that tells the scheduler's script to start the job again."""
        if wanted:
            self.requeue_file.touch()
        else:
            self.requeue_file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is either the old one or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def build_model(model: ModelOptions, loss: LossOptions, seed: int) -> Localizer:
    """Return the model with weights drawn from `seed`, and with what the loss has it learn."""
    return Localizer(model, loss.scalars(), seed=seed, head=loss.head)


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
    which: Literal["model", "ema", "untrained"] = "model",
    chosen: Literal["latest", "best"] = "latest",
) -> tuple[Localizer, dict[str, Any]]:
    """Return the model of a run, in eval mode on the CPU, and the run's recipe as plain values.

    `chosen` is the newest checkpoint or the best by validation.

    `untrained` is the same architecture from the same seed with no step taken. Raises UserError where the run
    has no valid checkpoint.
    """
    run = Run(folder)
    recipe, source = run.recipe(), str(run.recipe_file)
    if which == "untrained":
        return rebuild(recipe, source, None), recipe
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
