"""What is trained: a method's loss in the frame of launch/recipes/miniature.yaml, on labels, with a seed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.miniature.training import Setting
from cacl.options import parse, plain
from launch.config import read_recipe
from launch.jobs.recipe import Recipe

RECIPES = Path("launch/recipes")
FRAME = RECIPES / "miniature.yaml"
EMA_DECAY = 0.95
"""It averages over 20 of a miniature's 256 steps; SLAVC's 0.999 over 1,000 of 22,500."""
WITHOUT_DROPOUT = {"target": {"statistics": "running", "dropout": False}}
"""Targets as in eval mode. SLAVC's own drop nine tenths of what here are 112 channels."""


def setting(
    folder: Path,
    level: str,
    method: str,
    labels: str | None,
    seed: int,
    tag: str = "",
    loss: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    protocols: tuple[str, ...] = ("stamps",),
) -> Setting:
    """Return a training with the loss of `method` (a recipe's name) on a level's clips.

    A loss is what a recipe says of `loss`, of heads, image dropout and views, and how the moving average
    makes targets; all else is the frame's. `labels` names a table beside the clips; None trains on own clips
    alone. `loss` and `training` replace keys of the recipe, `tag` tells such a variant from others in the
    name, `protocols` measure it.
    """
    recipe = plain(parse(Recipe, read_recipe(FRAME), str(FRAME)))
    published = plain(parse(Recipe, read_recipe(RECIPES / f"{method}.yaml"), method))
    recipe["loss"] = {**published["loss"], **(loss or {})}
    if labels is None:
        recipe["loss"]["positives"] = {"name": "own-clip"}
    for key in ("heads", "image_dropout"):
        recipe["model"][key] = published["model"][key]
    recipe["data"]["augmentation"]["views"] = published["data"]["augmentation"]["views"]
    if published["training"]["ema_decay"] is not None:
        recipe["training"] |= {"ema_decay": EMA_DECAY, "target": published["training"]["target"]}
    recipe["training"] |= {"seed": seed, **(training or {})}
    train = folder / level / "train"
    recipe["data"] |= {
        "train": str(train),
        "labels": labels and str(train / "labels" / f"{labels}.parquet"),
        "validation": None,  # nothing is chosen, and the cached towers see cached clips alone
        "test": str(folder / "test"),
    }
    return Setting(name_of(level, method, labels, tag), recipe, protocols)


def name_of(level: str, method: str, labels: str | None, tag: str = "") -> str:
    """Return where the runs of a row lie, a folder a seed."""
    return f"{level}/{method}-{labels or 'none'}" + (f"-{tag}" if tag else "")


def study_parser(description: str | None, folder: str = "runs/miniature") -> argparse.ArgumentParser:
    """Return what every study asks on the command line; `folder` is where all is kept unless it says."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="stamps", help="stamps, or generated for a trial")
    parser.add_argument("--clips", type=int, default=2000, help="training clips a level (default: 2000)")
    parser.add_argument("--test-clips", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path(folder), help="where all is kept")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where pages and figures go")
    return parser
