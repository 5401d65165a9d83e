"""A training of two ranks that is disturbed once in a phase of it, and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from cacl.runs import checkpoint
from cacl.runs.directory import Run
from tests.helpers.disks import fill, small_disk
from tests.launch.tiny import cacl, write_recipe
from tests.training.jobs import Job, processes_of, steps

PHASES = ("start", "step", "checkpoint", "validation", "end")
STOPS = {"TERM": signal.SIGTERM, "USR1": signal.SIGUSR1, "HUP": signal.SIGHUP, "INT": signal.SIGINT}
KILLS = ("kill a rank", "kill torchrun", "kill all")
LAST = 12
LIMIT = 120.0
"""Seconds after which a job that was disturbed hangs: its own timeout is 20."""
WORDS = ("--max-steps", str(LAST))


def prepare(folder: Path) -> None:
    """Pack what is trained on, and train once in peace."""
    for name, clips in (("train", 72), ("validation", 24)):
        size = ["--clips", str(clips), "--shard-size", "6", "--frame-side", "48"]
        if not (folder / name / "manifest.json").exists():
            done(cacl("pack", "generated", "--out", str(folder / name), *size))
    values = {"checkpoint_every": 3, "epochs": 100, "distributed_timeout": 20.0, "ema_decay": 0.9}
    data = {
        "order": {"name": "lanes", "lanes": 6},
        "workers": 1,
        "augmentation": {"size": 32, "short_side": 36},
    }
    recipe = write_recipe(
        folder, folder / "train", training=values, data={**data, "validation": str(folder / "validation")}
    )
    if not (folder / "peace.json").exists():
        with Job(recipe, folder / "peace", "--resume", *WORDS) as job:
            began = time.monotonic()
            job.until_step(1)
            seconds = time.monotonic() - began
            assert job.end() == 0, job.text()
        (folder / "peace.json").write_text(json.dumps({"first_step": seconds}))


def done(answer: subprocess.CompletedProcess[str]) -> None:
    """Raise unless a command has ended well."""
    assert answer.returncode == 0, answer.stderr


def disturb(folder: Path, number: int) -> dict[str, Any]:
    """Disturb training `number`, resume it, and return what was done and what came of it."""
    chance, phase, full = random.Random(number), PHASES[number % len(PHASES)], number % 3 == 0
    how = "full disk" if full else chance.choice([*STOPS, *KILLS])
    found: dict[str, Any] = {"phase": phase, "how": how}
    with disk(folder, full) as place:
        run = place / "run"
        with Job(folder / "tiny.yaml", run, *WORDS) as job:
            wait_for(job, phase, json.loads((folder / "peace.json").read_text())["first_step"], chance)
            began = time.monotonic()
            strike(job, how, place, chance)
            found |= {
                "exit": ended(job),
                "seconds": round(time.monotonic() - began, 1),
                "text": job.text()[-3000:],
            }
            found["left"] = left_behind(run)
        (place / "ballast").unlink(missing_ok=True)
        with Job(folder / "tiny.yaml", run, "--resume", *WORDS) as job:
            found["resumed"] = ended(job)
            if found["resumed"] != 0:
                found["text"] += job.text()[-3000:]
        found["equal"] = found["resumed"] == 0 and result(run) == result(folder / "peace")
    stopped = how in STOPS and found["exit"] in (0, 130, -STOPS.get(how, 0))
    found["orderly"] = "Traceback" not in found["text"] and (how not in STOPS or stopped)
    found["right"] = found["equal"] and found["orderly"] and found["exit"] != "hangs" and not found["left"]
    if found["right"]:
        del found["text"]
    return found


@contextlib.contextmanager
def disk(folder: Path, small: bool) -> Iterator[Path]:
    """Provide a new folder, on a disk of its own that can be filled if it is to be `small` (needs root)."""
    place = folder / "place"
    subprocess.run(["rm", "-rf", str(place)], check=True)
    place.mkdir()
    with small_disk(place, 8) if small else contextlib.nullcontext():
        yield place


def wait_for(job: Job, phase: str, first_step: float, chance: random.Random) -> None:
    """Return at a random moment of a phase, or when the job has ended before."""
    saved = chance.choice([3, 6, 9, 12])
    moments: dict[str, tuple[Callable[[], bool], float]] = {
        "start": (lambda: True, 1.1 * first_step),
        "step": (after(job.run, chance.randint(1, LAST - 2)), 0.05),
        "checkpoint": (lambda: bool(list((job.run / "checkpoints").glob("writing-*"))), 0.03),
        "validation": (after(job.run, saved), 0.15),  # the step is logged as its validation begins
        "end": (after(job.run, LAST), 1.5),
    }
    condition, longest = moments[phase]
    with contextlib.suppress(AssertionError):  # it has ended before
        if phase == "checkpoint":
            job.until(after(job.run, saved - 1), LIMIT)
        job.until(condition, LIMIT)
    time.sleep(chance.uniform(0, longest))


def after(run: Path, step: int) -> Callable[[], bool]:
    """Return what says whether a step is in the log."""
    return lambda: len(steps(run)) >= step


def strike(job: Job, how: str, place: Path, chance: random.Random) -> None:
    """Disturb the job; who has just ended is not disturbed any more."""
    with contextlib.suppress(OSError, psutil.Error, StopIteration, IndexError):
        family = job.family()
        if how == "full disk":
            fill(place / "ballast")
        elif how in STOPS:
            targets = [family[0], *(process for process in family[1:] if "launch.main" in process.cmdline())]
            target = family[0] if how == "INT" else chance.choice(targets)
            os.kill(target.pid, STOPS[how])
        elif how == "kill all":
            job.kill()
        elif how == "kill torchrun":
            os.kill(job.torchrun(), signal.SIGKILL)
        else:
            os.kill(job.rank(chance.randrange(2)), signal.SIGKILL)


def ended(job: Job) -> int | str:
    """Return the exit code, or "hangs"."""
    try:
        return job.process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        return "hangs"


def left_behind(run: Path) -> list[str]:
    """Return the processes that work on a run ten seconds after its end."""
    end = time.monotonic() + 10
    while found := processes_of(run):
        if time.monotonic() > end:
            return [" ".join(one.info["cmdline"])[:200] for one in found]
        time.sleep(0.1)
    return []


def result(run: Path) -> dict[str, Any]:
    """Return losses, validations and weights."""
    newest = checkpoint.latest_valid(run / "checkpoints")
    assert newest is not None
    names = ("model.safetensors", "ema.safetensors", "engine/optimizer.safetensors")
    records = Run(run).records()
    validations = {record["step"]: record["validation"] for record in records if "validation" in record}
    return {
        "losses": steps(run),
        "validations": validations,
        **{name: (newest / name).read_bytes() for name in names},
    }
