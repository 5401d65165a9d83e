"""What of a recipe may change when a training goes on.

A resumed training takes the steps that it would have taken. What its state or its order of clips hangs on may
not change; the rest (length, learning rate, what is logged ...) may, and every change is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cacl.errors import UserError

if TYPE_CHECKING:
    from cacl.runs.directory import Run
    from launch.jobs.recipe import Recipe

FIXED = (
    "model",
    "loss",
    "data.order",
    "optimizer.name",
    "optimizer.decay",
    "optimizer.rates",
    "engine.name",
    "engine.zero",
    "training.seed",
    "training.global_batch_size",
    "training.micro_batch_size",
    "training.ema_decay",
    "training.target",
)
"""Keys, or sections, whose change makes another training."""
FREE = ("loss.memory_mib", "loss.kernel")
"""Keys in them that change no number but by rounding."""


def check_changes(run: Run, recipe: Recipe) -> list[str]:
    """Return the changes that a resumed `run` takes up, each as "key old → new".

    Raises UserError for those that it cannot take up.
    """
    from cacl.options import parse, plain
    from launch.jobs.recipe import Recipe

    before = flat(plain(parse(Recipe, run.recipe(), str(run.recipe_file))))
    now = flat(plain(recipe))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    refused = [key for key in changed if _is_fixed(key)]
    if refused:
        sentences = "; ".join(_sentence(key, before, now) for key in refused)
        raise UserError(
            f"{run.folder}: was trained with another recipe ({sentences}); restore it, or begin another "
            "--run-dir, with --init-from for the weights"
        )
    return [_sentence(key, before, now) for key in changed]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, under dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def _is_fixed(key: str) -> bool:
    return key not in FREE and any(key == name or key.startswith(f"{name}.") for name in FIXED)


def _sentence(key: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    return f"{key} {before.get(key)} → {now.get(key)}"
