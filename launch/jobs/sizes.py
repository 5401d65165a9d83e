"""Whether a recipe's batch can be dealt to a number of ranks: asked before anything is started."""

from __future__ import annotations

from cacl.errors import UserError
from launch.jobs.recipe import Recipe
from shards.order import check_division


def check_sizes(recipe: Recipe, ranks: int, source: str) -> None:
    """Raise UserError unless lanes, ranks and micro-batches divide; `source` names the recipe."""
    training = recipe.training
    lanes = recipe.data.order.parts(training.global_batch_size)
    try:
        check_division(training.global_batch_size, lanes, ranks, training.micro_batch_size)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
