"""The run directory: everything that a training leaves behind.

recipe.yaml environment.json train.jsonl requeue lock
checkpoints/step-N/{model,ema}.safetensors state.json engine/ hashes.json
evaluation/<protocol>[,<options>]/{clips.parquet,metrics.json} metrics.json report.html
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from cacl.errors import UserError, shorten
from cacl.files import lock_process, regular, write_json, write_text
from cacl.runs import log
from cacl.runs.renamed import rename_keys
from cacl.runs.strict_yaml import parse_yaml

FORMAT_VERSION = 1
CHECKPOINT = r"latest|best|step-[0-9]{1,12}"
"""What names a checkpoint: the newest one, the best by validation, or one by its step."""
_RESTORE = "restore it from the recipe that was trained"


class Run:
    """A run directory. Files are written by rank 0 alone."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.recipe_file = self.folder / "recipe.yaml"
        self.log_file = self.folder / "train.jsonl"
        self.requeue_file = self.folder / "requeue"
        self.checkpoints = self.folder / "checkpoints"
        self._lock: IO[str] | None = None

    def check(self) -> None:
        """Raise UserError where this is no run directory."""
        if not self.recipe_file.exists():
            raise UserError(f"{self.folder}: not a run directory, it has no recipe.yaml")

    def check_measured(self) -> None:
        """Raise UserError where no evaluation has been written, of a run or of predictions."""
        summary = self.folder / "metrics.json"
        if not summary.exists() and not any((self.folder / "evaluation").glob("*/metrics.json")):
            self.check()
            raise UserError(f"{summary}: there is none; run first: cacl evaluate --run {self.folder}")

    def is_used(self) -> bool:
        """Say whether a training has been started here."""
        return self.recipe_file.exists()

    def lock(self) -> None:
        """Keep other trainings out until `release` or the end of this process, however it ends.

        The lock is the kernel's (POSIX), on network file systems that have locks that of all nodes. Raises
        UserError where another process holds it.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("a+")
        if not lock_process(self._lock):
            self._lock.seek(0)
            holder = self._lock.read().strip()
            self.release()
            raise UserError(
                f"{self.folder}: another training writes here ({holder}); wait for its end, or name another "
                "--run-dir"
            )
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
        self.check()
        recipe = regular(self.recipe_file, _RESTORE)
        try:
            values = parse_yaml(recipe.read_text(encoding="utf-8"), str(self.recipe_file))
        except (OSError, UnicodeDecodeError, UserError) as error:
            why = shorten(error).removeprefix(f"{self.recipe_file}: ")
            raise UserError(f"{self.recipe_file}: {why}; {_RESTORE}") from error
        if not isinstance(values, dict):
            raise UserError(f"{self.recipe_file}: not a recipe; {_RESTORE}")
        return rename_keys(values, str(self.recipe_file))

    def log(self, record: dict[str, Any]) -> None:
        """Append one JSON line to train.jsonl."""
        with self._writing():
            log.append(self.log_file, record)

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

    def truncate_log(self, step: int) -> None:
        """Drop log lines of steps after `step`, which will be taken again; a torn last line goes too."""
        with self._writing():
            log.truncate(self.log_file, step)

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of train.jsonl that are whole."""
        return log.read(self.log_file)

    def stream(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of train.jsonl that are whole, one after the other."""
        return log.stream(self.log_file)

    def newest_first(self, key: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of train.jsonl that have `key`, from the last to the first."""
        return log.newest_first(self.log_file, key)

    def leave_requeue(self) -> None:
        """Ask to be started again, where there may be no run directory yet."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
        self.ask_requeue(True)

    def ask_requeue(self, wanted: bool) -> None:
        """Leave or remove the marker that tells the scheduler's script to start the job again."""
        with self._writing():
            if wanted:
                self.requeue_file.touch()
            else:
                self.requeue_file.unlink(missing_ok=True)
