"""A recipe's step on many GPUs, by a stated model: predicted, not measured.

    python -m benchmarks.scale
    python -m benchmarks.scale --write docs/scale.md

Seconds of a step = compute + loss + gradients' exchange that backward does not hide + loss's exchange + host.
docs/scale.md explains it and shows the tables. What a recipe trains is counted on the model that the recipe
builds, not written down here.

Axes: `N` clips of the global batch, `W` GPUs, `n = N / W`, `H` heads, `P` places of a map, `D` channels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.pages import put
from benchmarks.tables import table
from benchmarks.traffic import bytes_received
from cacl.loss import LossOptions
from cacl.loss.pairs import GPU_MEMORY_MIB
from cacl.model.localizer import Localizer, ModelOptions
from launch.config import load_recipe

SIDE, SECONDS = 224, 3
"""Of a frame, in pixels, and of a sound."""
RECIPES = ("ez-vsl", "slavc")


@dataclass(frozen=True)
class Trained:
    """What is trained: counts of one model."""

    forward_flop: float
    """Floating-point operations of one clip's forward."""
    values: int
    """Parameters and BatchNorm's statistics."""
    heads: int
    places: int
    channels: int
    has_target: bool
    loss: LossOptions


@cache
def trained_by(recipe: str) -> Trained:
    """Count what a recipe trains. Its image weights are no file here and do not count."""
    options = load_recipe(recipe, ["--model.image.weights", "none"])
    return count(options.model, options.loss, options.training.ema_decay is not None)


def count(options: ModelOptions, loss: LossOptions, has_target: bool = False) -> Trained:
    """Count one clip's forward, and what of a model is exchanged."""
    model = Localizer(options, loss.scalars(), head=loss.head).eval()
    frame = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    prepared = model.prepare(frame, torch.zeros(1, SECONDS * options.features.rate))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embeddings = model(*prepared)
    _, heads, places, channels = embeddings.image.shape
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    statistics = sum(buffer.numel() for buffer in model.buffers() if buffer.is_floating_point())
    flop = float(counter.get_total_flops())
    return Trained(flop, learned + statistics, heads, places, channels, has_target, loss)


@dataclass(frozen=True)
class Machine:
    """Assumptions, all to be replaced by what a site measures."""

    flop_per_second: float = 312e12 * 0.3
    """A100, bfloat16, at 30 % of its peak."""
    loss_flop_per_second: float = 19.5e12 * 0.5
    """The pairs are scored in float32."""
    gpus_of_a_node: int = 8
    node_bandwidth: float = 200e9
    """Bytes a second into one GPU from others of its node."""
    network_bandwidth: float = 20e9
    """Bytes a second into one GPU from other nodes: a 200 Gbit/s adapter a GPU, at 80 %."""
    latency: float = 20e-6
    """Seconds of one step of a ring; a collective takes two log2 W of them (trees and rings)."""
    collectives: int = 16
    host: float = 5e-3
    """Seconds of launching and logging a step, hidden where the GPU has more to do."""


@dataclass(frozen=True)
class Step:
    """Predicted seconds and bytes of one rank."""

    seconds: float
    compute: float
    loss: float
    gradient_exchange: float
    loss_exchange: float
    gradient_bytes: float
    loss_bytes: int


def predict(
    clips: int, gpus: int, what: Trained, micro_batch: int = 128, machine: Machine | None = None
) -> Step:
    """Return the predicted step of a global batch of `clips` on `gpus`."""
    machine = machine or Machine()
    n = clips // gpus
    # Forward, and twice that for backward; the cached form's first forward; the target's.
    passes = 3 + (n > micro_batch) + what.has_target
    compute = passes * what.forward_flop * n / machine.flop_per_second
    loss = loss_flop(what, n, clips) / machine.loss_flop_per_second
    bandwidth = machine.node_bandwidth if gpus <= machine.gpus_of_a_node else machine.network_bandwidth
    gradient_bytes = 2 * (gpus - 1) / gpus * what.values * 4
    width = what.heads * what.channels
    loss_bytes = bytes_received(what.loss, clips, gpus, width)
    loss_bytes += what.has_target * n * width * 4 * (gpus - 1)  # the target's sounds, which have no gradient
    # Gradients travel while the last micro-batch's backward computes: two of its three passes.
    hidden = 2 * what.forward_flop * min(n, micro_batch) / machine.flop_per_second
    waiting = machine.collectives * 2 * (gpus - 1).bit_length() * machine.latency
    gradient_exchange = max(0.0, gradient_bytes / bandwidth - hidden) + waiting
    loss_exchange = loss_bytes / bandwidth
    device = compute + loss + gradient_exchange + loss_exchange
    seconds = max(device, machine.host)
    return Step(seconds, compute, loss, gradient_exchange, loss_exchange, gradient_bytes, loss_bytes)


def loss_flop(what: Trained, n: int, clips: int) -> float:
    """Return the operations of one rank's loss: matrix products of its maps and all sounds.

    `max` needs one, and one more for pairs that are not kept. Others need the scores, the scores again, and a
    product for each side that learns: of two views with targets, one side each.
    """
    views = 1 + what.has_target
    products = 2.0 + (1 if what.has_target else 2)
    if what.loss.similarity.keeps:
        kept = (what.loss.memory_mib or GPU_MEMORY_MIB) * 2**20 / 2 / (5 * what.heads * n * clips)
        products = 2 - min(1.0, kept)
    return views * products * 2 * n * clips * what.heads * what.places * what.channels


def steps_of(recipe: str) -> str:
    """Return what a recipe trains and its predicted steps, as Markdown."""
    what = trained_by(recipe)
    loss = what.loss
    trained = (
        f"`{recipe}`: {what.forward_flop / 1e9:.2f} GFLOP forward a clip, {what.values / 1e6:.1f} million "
        f"values to exchange, {what.heads} head{'s' * (what.heads > 1)}, P = {what.places}, "
        f"D = {what.channels}; "
        f"`{loss.similarity.name}`, `{loss.objective.name}`, `{loss.direction}`"
        f"{', with targets of a moving average' * what.has_target}."
    )
    heads = ["N", "GPUs", "ms a step", "clips/s", "encoders", "loss", "gradients", "loss's bytes"]
    heads += ["MB of gradients", "MB of loss"]
    lines = []
    for clips in (128, 1024, 4096, 16384):
        for gpus in (1, 8, 32, 128, 256):
            if clips // gpus < 1:
                continue
            step = predict(clips, gpus, what)
            parts = (step.compute, step.loss, step.gradient_exchange, step.loss_exchange)
            shown = [f"{1e3 * part:.1f}" for part in parts]
            sizes = [f"{step.gradient_bytes / 1e6:.0f}", f"{step.loss_bytes / 1e6:.1f}"]
            rate = f"{clips / step.seconds:,.0f}"
            lines.append([f"{clips:,}", str(gpus), f"{1e3 * step.seconds:.1f}", rate, *shown, *sizes])
    return f"{trained}\n\n{table(heads, lines)}\n"


def main() -> None:
    """Print the tables as Markdown, or write them into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the page's marks")
    arguments = parser.parse_args()
    tables = "\n".join(map(steps_of, RECIPES))
    if arguments.write:
        put(arguments.write, "scale", tables)
    else:
        print(tables)


if __name__ == "__main__":
    main()
