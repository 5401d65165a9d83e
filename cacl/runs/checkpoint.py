"""Checkpoints that are complete or absent, and hold no pickle.

A checkpoint is the folder `step-N` with safetensors files, `state.json` (plain values) and `hashes.json`
(sha256 of every other file, written last). It is made under another name and renamed once all of it is on the
disk.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cacl.errors import UserError, shorten
from cacl.files import read_json, regular, sha256_file, sync_folder, write_json
from cacl.runs.renamed import has_older_names, rename_tensors

FORMAT_VERSION = 1


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a model's tensors have today's names, whatever the version that wrote it.

    Raises UserError where it is not there or damaged.
    """
    try:
        return rename_tensors(load_file(regular(path, "name a whole .safetensors file")))
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read ({shorten(error)}); name a run directory or a whole .safetensors file"
        ) from error


def is_older(path: Path) -> bool:
    """Say whether a model's file was written by a version that had other names."""
    with safe_open(path, framework="pt") as file:
        return has_older_names(file.keys())


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file; every tensor is made contiguous and has storage of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def to_host(tensors: dict[str, Tensor], earlier: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Copy tensors to contiguous ones on the host, so that training may go on while they are written.

    Those of an `earlier` copy that fit are written over: fresh memory costs several times the copy itself,
    and slows the step that follows.
    """
    copies = {}
    for name, tensor in tensors.items():
        copy = (earlier or {}).get(name)
        if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
            copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        copies[name] = copy.copy_(tensor.detach())
    return copies


class Writer:
    """Writes one checkpoint at a time in a thread; the next `save` waits for the one before it."""

    def __init__(self, folder: Path, keep: int = 2, choice: str = "") -> None:
        """Keep the newest `keep` and the best by the validation figure `choice`."""
        self.folder, self.keep, self.choice = folder, keep, choice
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._copies: dict[str, dict[str, Tensor]] = {}

    def begin(self, step: int) -> Path:
        """Make and return the folder in which checkpoint `step` is written, empty.

        Raises the error of an earlier write, which otherwise would stay unseen in its thread.
        """
        self.wait()
        folder = self._unfinished(step)
        try:
            for left in self.folder.glob("writing-*"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            folder.mkdir(parents=True)
        except OSError as error:
            raise self._failed(error) from error
        return folder

    def save(self, step: int, files: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        """Write `files` (path within the checkpoint → tensors) and `state` into the folder begun.

        Returns when the tensors are copied, while a thread writes them.
        """
        self._copies = {name: to_host(part, self._copies.get(name)) for name, part in files.items()}
        self._thread = threading.Thread(target=self._write, args=(step, state), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written any more; raise what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise self._failed(error) from error

    def _unfinished(self, step: int) -> Path:
        return self.folder / f"writing-{step}"

    def _failed(self, error: BaseException) -> UserError:
        return UserError(
            f"{self.folder}: the checkpoint could not be written ({error}); make room or mend the folder, "
            "then go on with --resume",
            exit_code=1,
        )

    def _write(self, step: int, state: dict[str, Any]) -> None:
        try:
            final = self.folder / f"step-{step}"
            temporary = self._unfinished(step)
            for name, tensors in self._copies.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                save_file(tensors, temporary / name)
            body = {"format_version": FORMAT_VERSION, "step": step, **state}
            (temporary / "state.json").write_text(json.dumps(body, indent=2))
            seal(temporary)
            before = self.folder / f"writing-before-{step}"
            if final.exists():  # validated by a later start; the run is without it for a moment only
                final.rename(before)
            temporary.rename(final)
            shutil.rmtree(before, ignore_errors=True)
            sync_folder(self.folder)
            chosen = best(self.folder, self.choice)
            for old in step_folders(self.folder)[self.keep :]:
                if old != chosen:
                    shutil.rmtree(old)
        except BaseException as error:
            self._error = error
            shutil.rmtree(self._unfinished(step), ignore_errors=True)  # the room is needed


def seal(folder: Path) -> None:
    """Bring every file of `folder` to the disk and write their sha256 into `hashes.json`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {}
    for path in paths:
        hashes[str(path.relative_to(folder))] = sha256_file(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_json(folder / "hashes.json", hashes)
    sync_folder(folder)


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None where every file is there with its sha256."""
    try:
        hashes = read_json(folder / "hashes.json", "take another checkpoint")
        for name, expected in hashes.items():
            if sha256_file(folder / name) != expected:
                return f"{name} does not match its sha256"
        if read_state(folder)["format_version"] != FORMAT_VERSION:
            return f"its format_version is not {FORMAT_VERSION}, which this cacl reads"
    except (UserError, OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        return str(error)
    return None


def step_folders(folder: Path) -> list[Path]:
    """Return the checkpoints under `folder`, the newest first, damaged ones included."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def latest_valid(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files match their hashes; name every damaged one passed over."""
    for path in step_folders(folder):
        wrong = damage(path)
        if wrong is None:
            return path
        print(f"{path}: damaged ({wrong}); looking for one before it", file=sys.stderr)
    return None


def named(folder: Path, name: str) -> Path:
    """Return the checkpoint of this name. Raises UserError where it is not there, or damaged."""
    there = {path.name: path for path in reversed(step_folders(folder))}
    if name not in there:
        raise UserError(f"{folder}: holds no {shorten(name)}; there are: {', '.join(there) or 'none'}")
    if wrong := damage(there[name]):
        raise UserError(f"{there[name]}: damaged ({wrong}); name another checkpoint")
    return there[name]


def best(folder: Path, choice: str) -> Path | None:
    """Return the checkpoint with the highest validation figure `choice`, the later of equals, or None.

    A model that has diverged, whose scores on the validation clips are not all finite, is never the best.
    """
    measured = []
    for path in step_folders(folder):
        try:
            figures = read_state(path).get("validation") or {}
        except (OSError, UserError):
            continue
        figure = figures.get(choice) if isinstance(figures, dict) else None
        if isinstance(figure, int | float) and math.isfinite(figure) and "not_finite" not in figures:
            measured.append((figure, int(path.name[5:]), path))
    return max(measured)[2] if measured else None


def read_state(folder: Path) -> dict[str, Any]:
    """Read the plain values of a checkpoint. Raises UserError where they are damaged."""
    return read_json(folder / "state.json", "take another checkpoint")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimizer's state to `<parameter number>.<name>` → tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, part in state.items() for name, value in part.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` returned; hyperparameters stay as they are."""
    body = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": body["param_groups"]})
