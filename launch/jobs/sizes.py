"""Whether a recipe's batch can be dealt to a number of ranks: asked before anything is started."""

from __future__ import annotations

from cacl.errors import UserError
from cacl.training.options import TrainingOptions
from launch.jobs.recipe import Recipe
from shards.order import AUTO, Lanes, check_division

_PORTION = 32
"""Clips of a batch for each rank that `auto` makes one micro-batch."""


def check_sizes(recipe: Recipe, ranks: int, source: str) -> None:
    """Raise UserError unless lanes, ranks and micro-batches divide; `source` names the recipe."""
    try:
        check_lanes(recipe, recipe.data.order.parts(recipe.training.global_batch_size), ranks)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def check_lanes(recipe: Recipe, lanes: int, ranks: int) -> None:
    """Raise UserError unless `lanes`, ranks and micro-batches divide, with options under which all do."""
    training = recipe.training
    try:
        check_division(training.global_batch_size, lanes, ranks, training.micro_batch)
    except UserError as error:
        options = by_auto(training.global_batch_size, ranks) if recipe.data.order.name == "lanes" else ""
        raise UserError(f"{error}{options}") from error


def by_auto(batch: int, ranks: int) -> str:
    """Return the options by which `ranks` can train in batches of `batch` clips or some more, as a clause."""
    portion = _PORTION * max(ranks, 1)
    first = -(-batch // portion) * portion
    for size in (batch, *range(first, first + 8 * portion, portion)):
        micro = TrainingOptions(global_batch_size=size, micro_batch_size="auto").micro_batch
        try:
            check_division(size, Lanes(lanes="auto").parts(size), ranks, micro)
        except UserError:
            continue
        option = "" if size == batch else f"--training.global-batch-size {size} "
        return f"; or let them be found: {option}{AUTO}"
    return ""
