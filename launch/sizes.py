"""Whether a recipe's batch can be dealt to a number of ranks: asked before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacl.errors import UserError

if TYPE_CHECKING:
    from launch.recipe import Recipe


def check_sizes(recipe: Recipe, ranks: int, source: str) -> None:
    """Raise UserError where lanes, ranks and micro-batches do not divide; `source` names the recipe."""
    batch, micro = recipe.training.global_batch_size, recipe.training.micro_batch_size
    lanes = recipe.data.order.parts(batch)
    if batch < 1 or micro < 1 or lanes < 1 or ranks < 1:
        raise UserError(f"{source}: batch sizes, data.order.lanes and the number of ranks are at least 1")
    if batch % lanes:
        below, above = batch // lanes * lanes, -(-batch // lanes) * lanes
        raise UserError(
            f"{source}: training.global_batch_size: {batch} does not divide into data.order.lanes: {lanes}; "
            f"use {below or above} or {above}"
        )
    if lanes % ranks:
        raise UserError(
            f"{source}: data.order.lanes: {lanes} cannot be dealt to {ranks} ranks; "
            f"use a number of ranks that divides {lanes}, or lanes that {ranks} divides"
        )
    if batch // ranks % micro:
        raise UserError(
            f"{source}: training.micro_batch_size: {micro} does not divide the {batch // ranks} clips "
            f"that each of {ranks} ranks has of {batch}; use one that does"
        )
