"""Packing, labeling and evaluating: killed at a random moment, done again, and equal to what was left alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.launch.tiny import cacl, write_recipe
from tests.soak.trainings import LIMIT, done, left_behind
from tests.training.jobs import kill_at_once

PHASES = ("first half", "second half")
BLOWS = ("TERM", "INT", "HUP", "kill all", "kill the parent", "kill a child")


@dataclass(frozen=True)
class Work:
    """A command that may be done again after anything."""

    words: Callable[[Path, Path], list[str]]
    """Of the folder with what it needs, and of its own folder."""
    begin: Callable[[Path, Path], object]
    """Makes its own folder from the other, before the command."""
    results: str
    """Glob of the files that must be equal, below its own folder."""
    ingredients: Callable[[Path], None]

    def prepare(self, folder: Path) -> None:
        """Make what the command needs, and do it once in peace."""
        if (folder / "peace.json").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.ingredients(folder)
        self._begin(folder, folder / "peace")
        began = time.monotonic()
        done(cacl(*self.words(folder, folder / "peace")))
        (folder / "peace.json").write_text(json.dumps({"seconds": time.monotonic() - began}))

    def disturb(self, folder: Path, number: int) -> dict[str, Any]:
        """Disturb the command, do it again, and return what was done and what came of it."""
        chance, place = random.Random(1000 + number), folder / "place"
        phase, how = PHASES[number % 2], BLOWS[number // 2 % len(BLOWS)]
        self._begin(folder, place)
        moment = (
            json.loads((folder / "peace.json").read_text())["seconds"] * (number % 2 + chance.random()) / 2
        )
        words = [sys.executable, "-m", "launch.main", *self.words(folder, place)]
        with (folder / "output.txt").open("w") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            began = time.monotonic()
            _strike(process, how, chance)
            try:
                code: int | str = process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                code = "hangs"
            seconds = time.monotonic() - began
        text = (folder / "output.txt").read_text()
        left = left_behind(place)
        again = cacl(*self.words(folder, place))
        equal = again.returncode == 0 and _results(place, self.results) == _results(
            folder / "peace", self.results
        )
        orderly = "Traceback" not in text
        found = {"phase": phase, "how": how, "exit": code, "seconds": round(seconds, 1), "left": left}
        found |= {"resumed": again.returncode, "equal": equal, "orderly": orderly}
        found["right"] = equal and orderly and code != "hangs" and not left
        return found if found["right"] else {**found, "text": (text + again.stderr)[-6000:]}

    def _begin(self, folder: Path, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        self.begin(folder, place)


def _strike(process: subprocess.Popen[bytes], how: str, chance: random.Random) -> None:
    with contextlib.suppress(OSError, psutil.Error, IndexError):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        if how in ("TERM", "INT", "HUP"):
            os.kill(process.pid, signal.Signals[f"SIG{how}"])
        elif how == "kill the parent":
            process.kill()
        elif how == "kill a child":
            chance.choice(family[1:]).kill()
        else:
            kill_at_once(family)


def _results(place: Path, pattern: str) -> dict[str, str]:
    """Return the sha256 of every file of the result."""
    paths = [path for path in place.glob(pattern) if path.is_file()]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _pack(folder: Path) -> None:
    size = ["--clips", "120", "--shard-size", "12", "--frame-side", "64", "--seconds", "3"]
    done(cacl("pack", "generated", "--split", "test", "--out", str(folder / "data"), *size))


def _train(folder: Path) -> None:
    _pack(folder)
    recipe = write_recipe(folder, folder / "data")
    done(cacl("train", str(recipe), "--run-dir", str(folder / "run"), "--max-steps", "3"))


PACKING = Work(
    words=lambda folder, place: [
        *("pack", "generated", "--out", str(place), "--clips", "240", "--shard-size", "12"),
        *("--frame-side", "96", "--seconds", "3", "--workers", "2"),
    ],
    begin=lambda folder, place: None,
    results="*",
    ingredients=lambda folder: None,
)
LABELING = Work(
    words=lambda folder, place: ["label", str(place), "--workers", "1"],
    begin=lambda folder, place: shutil.copytree(folder / "data", place),
    results="labels/*.parquet",
    ingredients=_pack,
)
EVALUATION = Work(
    words=lambda folder, place: [
        *("evaluate", "--run", str(place), "--data", str(folder / "data"), "--protocol", "stamps"),
    ],
    begin=lambda folder, place: shutil.copytree(folder / "run", place),
    results="evaluation/**/*.*",
    ingredients=_train,
)
