"""What a sweep varies: the file that `--space` names, and the settings that come of it.

    vary:
      loss.temperature: [0.03, 0.07, 0.2]                          # these values
      optimizer.learning_rate: {low: 1e-4, high: 1e-2, log: true}  # or from a range (random search only)
    search: {name: grid}                                           # or {name: random, samples: 20, seed: 0}
    stop: {name: asha, first_step: 50, last_step: 450}             # or {name: never}
    seeds: [0, 1, 2]
    processes: 2

All settings are drawn and checked before the first trial starts: a sweep is a plain list from its beginning.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PlainValidator, PositiveInt

from cacl.errors import UserError
from cacl.options import Options, parse
from launch.config import find, load_recipe, read_yaml
from launch.jobs.sizes import check_sizes

Setting = dict[str, Any]
"""A value for every key that is varied, by its dotted name."""

STOPPED, FINISHED = "stopped-early", "finished"
"""Files in a trial's run directory: the scheduler has stopped it for good; its training has ended."""


@dataclass(frozen=True)
class NumberRange(Options):
    """Numbers to draw from."""

    low: float
    high: float
    log: bool = False
    """Draw the logarithm evenly."""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise UserError("needs low below high, and low above 0 where log is true")

    def draw(self, generator: np.random.Generator) -> float:
        """Return one number."""
        if self.log:
            return float(math.exp(generator.uniform(math.log(self.low), math.log(self.high))))
        return float(generator.uniform(self.low, self.high))


Variations = dict[str, list[Any] | NumberRange]
"""Dotted key of the recipe → a list of values, or a range."""


def parse_variations(vary: Any) -> Variations:
    """Return what a space varies, a mapping as YAML gives it. Raises UserError that names the wrong key."""
    if not isinstance(vary, dict) or not vary:
        raise UserError("vary: name at least one key of the recipe")
    return {key: _parse_values(key, values) for key, values in vary.items()}


def _parse_values(key: str, values: Any) -> list[Any] | NumberRange:
    if isinstance(values, dict):
        return parse(NumberRange, values, f"vary.{key}")
    if not isinstance(values, list) or not values:
        raise UserError(f"vary.{key}: give a list of values, or {{low: ..., high: ...}}; got {values!r}")
    return values


@dataclass(frozen=True)
class Grid(Options):
    """Every combination of the listed values."""

    name: Literal["grid"] = "grid"

    def settings(self, vary: Variations) -> list[Setting]:
        """Return all combinations; a range has no end of values and is refused."""
        for key, values in vary.items():
            if isinstance(values, NumberRange):
                raise UserError(f"vary.{key}: a grid needs a list of values; or use search: {{name: random}}")
        return [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Random(Options):
    """Settings drawn independently of each other."""

    name: Literal["random"] = "random"
    samples: int = 20
    """How many settings are drawn."""
    seed: int = 0
    """Of the drawing; the same seed draws the same settings."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError("search.samples: give at least 1")

    def settings(self, vary: Variations) -> list[Setting]:
        """Return `samples` settings, the same ones at every call."""
        generator = np.random.default_rng(self.seed)

        def draw(values: list[Any] | NumberRange) -> Any:
            return (
                values.draw(generator)
                if isinstance(values, NumberRange)
                else values[generator.integers(len(values))]
            )

        return [{key: draw(values) for key, values in vary.items()} for _ in range(self.samples)]


@dataclass(frozen=True)
class Never(Options):
    """Every trial is trained to its end."""

    name: Literal["never"] = "never"


@dataclass(frozen=True)
class Asha(Options):
    """Asynchronous successive halving (Li et al. 2020): at each rung only the best share goes on."""

    first_step: int
    """The first rung: no trial is stopped before this step."""
    last_step: int
    """Rungs lie at first_step · reduction^k up to here; at a training's own last step one saves nothing."""
    reduction: float = 3.0
    """One in so many goes on from a rung to the next."""
    name: Literal["asha"] = "asha"

    def __post_init__(self) -> None:
        if not (1 <= self.first_step <= self.last_step and self.reduction > 1):
            raise UserError("stop: needs 1 <= first_step <= last_step and reduction above 1")


@dataclass(frozen=True)
class SweepObjective(Options):
    """What is to be best: a key of the lines of train.jsonl, dots for keys within keys."""

    key: str = "validation.recall_at_1"
    """Which number decides, such as `validation.recall_at_1` or `loss`."""
    best: Literal["max", "min"] = "max"
    """Whether the highest or the lowest value wins."""

    def read(self, line: dict[str, Any]) -> float | None:
        """Return the objective in a line of train.jsonl, None where the line has none."""
        value: Any = line
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class Space(Options):
    """A sweep."""

    vary: Annotated[Variations, PlainValidator(parse_variations)]
    """Dotted keys of the recipe, each with a list of values, or for random search with a range
    `{low, high, log}`.
    """
    fixed: dict[str, Any] = field(default_factory=dict)
    """Dotted keys that every trial sets, such as a smaller number of epochs."""
    search: Annotated[Grid | Random, Field(discriminator="name")] = field(default_factory=Grid)
    stop: Annotated[Never | Asha, Field(discriminator="name")] = field(default_factory=Never)
    seeds: tuple[int, ...] = (0,)
    """training.seed of the trials that each setting gets."""
    objective: SweepObjective = field(default_factory=SweepObjective)
    processes: PositiveInt = 1
    """Ranks of one trial; each has a GPU where the machines have any."""
    retries: NonNegativeInt = 3
    """How often a trial that crashed is started again from its checkpoint."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError("seeds: give at least one, and none of them twice")
        if "training.seed" in {*self.vary, *self.fixed}:
            raise UserError(
                "training.seed: list the seeds under `seeds`, where they count as repeats of a setting"
            )

    def settings(self, recipe: str) -> list[Setting]:
        """Return every setting, checked against the recipe. Raises UserError for the first bad one."""
        settings = self.search.settings(self.vary)
        names = [setting_name(setting) for setting in settings]
        if len(set(names)) < len(names):
            raise UserError(
                f"vary: two settings are called {max(names, key=names.count)!r}; give each value once"
            )
        for setting in settings:
            try:
                trial = load_recipe(recipe, self.overrides(setting, 0))
                check_sizes(trial, self.processes, recipe)
                if self.objective.key.startswith("validation.") and trial.data.validation is None:
                    raise UserError(
                        f"the objective {self.objective.key} needs clips to validate on; set data.validation "
                        "in the recipe or under `fixed`"
                    )
            except UserError as error:
                shown = ", ".join(f"{key}: {value}" for key, value in setting.items())
                raise UserError(f"the setting {{{shown}}}: {error}") from error
        return settings

    def overrides(self, setting: Setting, seed: int) -> list[str]:
        """Return the words that turn the recipe into a trial's."""
        values = {**self.fixed, **setting, "training.seed": seed}
        return [f"--{key}={json.dumps(value)}" for key, value in values.items()]


def load_space(path: str | Path) -> Space:
    """Read and check a space. Raises UserError, one sentence, for whatever is wrong with it."""
    return parse(Space, read_yaml(find(path, "spaces")), str(path))


def setting_name(setting: Setting) -> str:
    """Return a short name for files and tables: `temperature=0.07,global_batch_size=48`."""
    lasts = [key.rsplit(".", 1)[-1] for key in setting]
    keys = lasts if len(set(lasts)) == len(lasts) else list(setting)
    parts = [f"{key}={_short(value)}" for key, value in zip(keys, setting.values(), strict=True)]
    return re.sub(r"[^\w.=,+-]+", "_", ",".join(parts))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, str | int) else json.dumps(value, separators=("", "-"))
