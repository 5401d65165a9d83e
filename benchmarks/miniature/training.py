"""One training of a study: cacl's own trainer, engine and loss, on cached inputs.

A run directory is as `cacl train` leaves it: `cacl evaluate`, `cacl compare` and `cacl report` take it.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.miniature.cache import PreparedLocalizer, annotate, prepare_inputs, prepare_sources
from benchmarks.miniature.data import TESTS
from cacl.evaluation import results
from cacl.evaluation.measure import measure as measure_clips
from cacl.evaluation.protocols import CONTROLS, Protocol, get_protocol
from cacl.evaluation.systems import maps_of, system_of
from cacl.files import write_json
from cacl.loss import LossOptions
from cacl.model.localizer import ModelOptions
from cacl.options import parse, plain
from cacl.resumable import kept
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.training.engines.base import MODEL_FILE
from cacl.types import Batch
from cacl.world import World
from launch.jobs.environment import describe
from launch.jobs.recipe import Recipe
from launch.jobs.train import train
from shards.progress import progress
from shards.store import open_store

VIEWS = 3
"""Random crops and flips of every training frame that are cached."""
WORKERS = 2
"""Trainings side by side, one thread each."""


@dataclass(frozen=True)
class Setting:
    """One training: a name, the resolved recipe as plain values, and what it is measured by."""

    row: str
    """Where its runs of all seeds lie."""
    recipe: Mapping[str, Any]
    protocols: tuple[str, ...] = ("stamps",)

    @property
    def name(self) -> str:
        """Where its run lies, below the study's `runs`."""
        return f"{self.row}/{self.recipe['training']['seed']}"

    def left(self, folder: Path) -> list[str]:
        """Return the protocols that its run has not been measured by."""
        evaluations = folder / "runs" / self.name / "evaluation"
        return [name for name in self.protocols if not (evaluations / name / "metrics.json").exists()]


def run_all(settings: Sequence[Setting], folder: Path) -> None:
    """Train and measure every setting that is not done yet, `WORKERS` at a time."""
    left = [setting for setting in unique(settings) if setting.left(folder)]
    done = len(unique(settings)) - len(left)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(run_one, setting, folder) for setting in left]
        for future in progress(as_completed(futures), total=done + len(left), initial=done, desc="trainings"):
            future.result()


def warm_up(settings: Sequence[Setting], folder: Path) -> None:
    """Fill the cache with what the settings need, so that trainings side by side only read it."""
    for setting in unique(settings):
        recipe = parse(Recipe, dict(setting.recipe), setting.name)
        prepare_sources(recipe.data, recipe.model, folder / "cache", views=VIEWS)
        for name in setting.protocols:
            for tested in (get_protocol(name), *CONTROLS.get(name, {}).values()):
                data = folder / TESTS[name]
                prepare_inputs(data, recipe.model, folder / "cache", views=0, audio=tested.audio)


def unique(settings: Sequence[Setting]) -> list[Setting]:
    """Return every run once, measured by all that any of its settings asks for."""
    found: dict[str, Setting] = {}
    for setting in settings:
        earlier = found.get(setting.name, setting)
        if earlier.recipe != setting.recipe:
            raise ValueError(f"expected one recipe of the name {setting.name}, received two")
        protocols = tuple(sorted({*earlier.protocols, *setting.protocols}))
        found[setting.name] = replace(setting, protocols=protocols)
    return list(found.values())


def run_one(setting: Setting, folder: Path) -> None:
    """Train and measure one setting; what it prints goes into the run directory."""
    recipe = parse(Recipe, dict(setting.recipe), setting.name)
    run = Run(folder / "runs" / setting.name)
    if not (run.folder / "study.json").exists():
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
        started = time.monotonic()
        with (run.folder / "output.txt").open("w") as log, contextlib.redirect_stderr(log):
            train_on_cache(recipe, run, folder / "cache")
        seconds = {"training": round(time.monotonic() - started, 1)}
        write_json(run.folder / "study.json", {"seconds": seconds, "environment": describe()})
    step = checkpoint.latest_valid(run.checkpoints)
    assert step is not None  # just trained
    model = new_model(recipe.model, recipe.loss, recipe.training.seed)
    model.load_state_dict(checkpoint.read_tensors(step / MODEL_FILE))
    for name in setting.left(folder):
        measure(recipe, step, get_protocol(name), model.eval(), folder)


def trained_seconds(setting: Setting, folder: Path) -> float:
    """Return how long a setting's training took."""
    record = json.loads((folder / "runs" / setting.name / "study.json").read_text())
    return float(record["seconds"]["training"])


def new_model(model: ModelOptions, loss: LossOptions, seed: int) -> PreparedLocalizer:
    """Return a model on cached inputs before its first step."""
    return PreparedLocalizer(model, loss.scalars(), seed=seed, head=loss.head)


def train_on_cache(recipe: Recipe, run: Run, cache: Path) -> None:
    """Train as `cacl train` does in one process, on the cache, with one checkpoint at the end."""
    inputs = prepare_sources(recipe.data, recipe.model, cache, views=VIEWS)
    epochs, views = recipe.training.epochs, recipe.loss.objective.views
    only_last = replace(recipe, training=replace(recipe.training, checkpoint_every=10**9))
    train(
        only_last,
        run.folder,
        batches=lambda data, first_step: inputs.batches(data.order, epochs, views),
        new_model=new_model,
    )


def measure(recipe: Recipe, step: Path, protocol: Protocol, model: PreparedLocalizer, folder: Path) -> None:
    """Measure a checkpoint's model on the cached test clips.

    Writes into its run what `cacl evaluate` writes, less its baselines.
    """
    run, data = step.parent.parent, folder / TESTS[protocol.name]
    store, system = open_store(data), {"model": system_of(maps_of(model))}
    parts = run / "evaluation" / f".{protocol.name}.parts"
    measured = {}
    with kept(parts, World()):
        for name, rules in {"model": protocol, **CONTROLS.get(protocol.name, {})}.items():
            clips = test_batches(data, json.dumps(plain(recipe.model)), rules.audio, folder / "cache")
            identity = {"data": store.fingerprint, "checkpoint": step.name}

            def batches(some: np.ndarray, clips: list[Batch] = clips) -> Iterator[Batch]:
                return (batch for batch in clips if batch.index[0].item() in some)

            found = measure_clips(system, rules, store.indices, batches, parts / name, identity, World())
            measured[name] = found["model"]
        subject = results.Subject(protocol, store.fingerprint, step.name, missing=[])
        results.write(run, results.summarize(subject, measured), measured)


@lru_cache(maxsize=4)
def test_batches(data: Path, model: str, audio: str, cache: Path) -> list[Batch]:
    """Return the annotated test clips with one of their sounds; a process keeps them for its next run."""
    options = parse(ModelOptions, json.loads(model), "model")
    return annotate(open_store(data), prepare_inputs(data, options, cache, views=0, audio=audio))
