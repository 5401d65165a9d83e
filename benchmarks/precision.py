"""How far a recipe's gradients turn where its pairs are scored in less than float32.

    python -m benchmarks.precision
    python -m benchmarks.precision --write docs/loss.md

Cosines between gradients of float64 and those with `loss.scores`, of the maps and of the sounds; each is the
least of the two and of the draws. `random` are random unit vectors, where a maximum over pixels is least sure
of its pixel; in `seen` every pixel holds some of its clip's sound, and the sounds of a class are alike. tf32
is rounded to here, whatever the hardware.

Axes: `N` clips, `P` pixels, `D` channels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pages import put
from benchmarks.tables import table
from cacl.loss import LossOptions, global_loss
from cacl.loss.precision import Precision
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from launch.config import load_recipe

RECIPES = ("demo", "miniature", "ez-vsl", "fnac", "margin-nce", "slavc", "slavc-class-aware", "lvs")
"""Those that score pairs: paper-literal has sums of classes, sspl own pairs only."""
CLASSES = 10


def vectors(kind: str, n: int, heads: int, pixels: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return unit vectors, maps [N, H, P, D] and sounds [N, H, D], `random` or `seen`."""
    draw = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, channels, generator=draw), dim=-1)

    maps, audio = unit(n, heads, pixels), unit(n, heads)
    if kind == "seen":
        audio = F.normalize(audio + unit(CLASSES, heads)[torch.arange(n) % CLASSES], dim=-1)
        share = torch.rand(n, 1, pixels, 1, generator=draw) / 2
        maps = F.normalize((1 - share) * maps + share * audio[:, :, None], dim=-1)
    return maps, audio


def gradients(loss: LossOptions, maps: Tensor, audio: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of maps and sounds, of clips of ten classes."""
    leaves = maps.detach().requires_grad_(), audio.detach().requires_grad_()
    index = torch.arange(len(maps))
    sure = torch.ones(len(maps), dtype=maps.dtype)
    clips = ClipLabels(index, index % CLASSES, sure, sure.bool())
    return torch.autograd.grad(global_loss(Embeddings(*leaves), clips, loss, World()).loss, leaves)


def cosine(loss: LossOptions, precision: Precision, maps: Tensor, audio: Tensor) -> float:
    """Return the least cosine between gradients of float64 and those of rounded scores."""
    exact = gradients(loss, maps.double(), audio.double())
    with mock.patch("cacl.loss.precision.in_effect", lambda asked, device: asked):
        found = gradients(replace(loss, scores=precision), maps, audio)
    pairs = zip(exact, found, strict=True)
    return min(float(F.cosine_similarity(x.flatten(), y.double().flatten(), dim=0)) for x, y in pairs)


def cosines(clips: int, draws: int) -> str:
    """Return the cosines as Markdown."""
    lines = []
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
    for recipe in RECIPES:
        loss = load_recipe(recipe, []).loss
        for kind in ("random", "seen"):
            drawn = [vectors(kind, clips, loss.similarity.heads or 1, 49, 512, seed) for seed in range(draws)]
            found = [min(cosine(loss, name, *pair) for pair in drawn) for name in precisions]
            cells = [f"`{recipe}`", f"`{loss.similarity.name}`", str(loss.temperature), kind]
            lines.append([*cells, *(f"{value:.6f}" for value in found)])
    return table(["recipe", "similarity", "temperature", "vectors", *precisions], lines)


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=240, help="clips N (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=3, help="draws of vectors (default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    arguments = parser.parse_args()
    found = cosines(arguments.clips, arguments.draws)
    print(found)
    if arguments.write:
        put(arguments.write, "precision", found)


if __name__ == "__main__":
    main()
