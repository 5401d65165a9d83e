"""The step of the ResNet-18 pair on many GPUs, predicted by a stated model and counted bytes: not measured.

    python -m benchmarks.scale

Seconds of a step = compute + loss + gradients' exchange that backward does not hide + loss's exchange + host.
docs/scale.md explains it and shows the table.

Axes: `N` clips of the global batch, `W` GPUs, `n = N / W`, `P` places of a map, `D` channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.traffic import bytes_received
from cacl.loss import LossOptions
from cacl.loss.objectives import InfoNCE
from cacl.loss.similarities import MaxSimilarity

FORWARD_FLOP = 5.02e9
"""Of one clip, counted by torch's FlopCounterMode: frame 224 x 224 and log-mel 64 x 301."""
PARAMETERS, STATISTICS = 22_872_064, 19_200
PLACES, CHANNELS = 49, 512
LOSS = LossOptions(similarity=MaxSimilarity(), objective=InfoNCE(), direction="both")


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


def predict(clips: int, gpus: int, micro_batch: int = 128, machine: Machine | None = None) -> Step:
    """Return the predicted step of a global batch of `clips` on `gpus`."""
    machine = machine or Machine()
    n = clips // gpus
    passes = (
        3 if n <= micro_batch else 4
    )  # forward and twice that for backward; the cached form's first forward
    compute = passes * FORWARD_FLOP * n / machine.flop_per_second
    loss = 4 * 2 * n * clips * PLACES * CHANNELS / machine.loss_flop_per_second
    bandwidth = machine.node_bandwidth if gpus <= machine.gpus_of_a_node else machine.network_bandwidth
    gradient_bytes = 2 * (gpus - 1) / gpus * (PARAMETERS + STATISTICS) * 4
    loss_bytes = bytes_received(LOSS, clips, gpus, CHANNELS)
    # Gradients travel while the last micro-batch's backward computes: two of its three passes.
    hidden = 2 * FORWARD_FLOP * min(n, micro_batch) / machine.flop_per_second
    waiting = machine.collectives * 2 * (gpus - 1).bit_length() * machine.latency
    gradient_exchange = max(0.0, gradient_bytes / bandwidth - hidden) + waiting
    loss_exchange = loss_bytes / bandwidth
    device = compute + loss + gradient_exchange + loss_exchange
    seconds = max(device, machine.host)
    return Step(seconds, compute, loss, gradient_exchange, loss_exchange, gradient_bytes, loss_bytes)


def main() -> None:
    """Print the table as Markdown."""
    heads = ["N", "GPUs", "ms a step", "clips/s", "encoders", "loss", "gradients", "loss's bytes"]
    heads += ["MB of gradients", "MB of loss"]
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for clips in (128, 1024, 4096, 16384):
        for gpus in (1, 8, 32, 128, 256):
            if clips // gpus < 1:
                continue
            step = predict(clips, gpus)
            parts = (step.compute, step.loss, step.gradient_exchange, step.loss_exchange)
            shown = " | ".join(f"{1e3 * part:.1f}" for part in parts)
            sizes = f"{step.gradient_bytes / 1e6:.0f} | {step.loss_bytes / 1e6:.1f}"
            rate = clips / step.seconds
            print(f"| {clips:,} | {gpus} | {1e3 * step.seconds:.1f} | {rate:,.0f} | {shown} | {sizes} |")


if __name__ == "__main__":
    main()
