"""Time and memory of the loss, forward and backward, beside the forms in which public code writes it.

    python -m benchmarks.loss --json
    python -m benchmarks.loss --json --only max --sizes 1024,2048
    python -m benchmarks.loss --json --only max,attention --scores float32,bfloat16

Rows `loss/<similarity>/N=<n>/time` (seconds; processor seconds beside, for a shared machine) and `/memory`
(bytes allocated at most beyond inputs and their gradients). `mean`, `max` and `attention` stand beside the
tensor of all pixels and sounds that public code builds with einsum; `max-matmul` beside the same tensor built
by one matrix product, `mean-pooled` beside pooling first and multiplying then: the honest rivals. They stay
float32 where our scores do not (`loss/max-bfloat16/...`); `mean` scores no pairs and has no such rows.
`loss/bytes/...` counts what two ranks exchange.

Every comparison has a process of its own, whose allocator keeps what is freed, as a GPU's does: otherwise
the pages of a gradient of the maps are asked for in each run, which takes longer than the small losses do.

Axes: `N` clips, `P` = 7 x 7 pixels, `D` = 512 channels.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.traffic import bytes_of_gathering_everything, bytes_of_gathering_pooled, bytes_received
from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip, SameClass
from cacl.loss.precision import Precision
from cacl.loss.similarities import AttentionSimilarity, MaxSimilarity
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.helpers.memory import peak_memory
from tests.helpers.ranks import run_ranks

CHANNELS, SIDE, CLASSES, TAU = 512, 7, 100, 0.03
SECONDS, MOST_REPEATS = 5.0, 500
"""A comparison of short runs goes on for so long, in so many turns at most."""
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Environment of a process whose allocator (glibc's) gives nothing back to the system."""
COPIES = 8
"""Tensors [N, N, P] that a full-tensor form holds at once with its gradients, at most."""


@dataclass(frozen=True)
class Side:
    """One of the two forms that are compared: inputs that collect gradients, and the loss of them."""

    inputs: list[Tensor]
    loss: Callable[[], Tensor]

    def run(self) -> float:
        """Forward and backward; return the loss.

        The gradients are freed, so that the next run, of either side, finds the allocator as this one did.
        """
        value = self.loss()
        value.backward()
        for tensor in self.inputs:
            tensor.grad = None
        return value.item()


def vectors(n: int, heads: int) -> tuple[Tensor, Tensor]:
    """Unit vectors: maps [N, H, P, D] and sounds [N, H, D]."""
    generator = torch.Generator().manual_seed(n)
    maps = torch.randn(n, heads, SIDE * SIDE, CHANNELS, generator=generator)
    audio = torch.randn(n, heads, CHANNELS, generator=generator)
    return F.normalize(maps, dim=-1), F.normalize(audio, dim=-1)


def join_labels(n: int) -> ClipLabels:
    """N clips of 100 classes, all known and valid."""
    label = torch.arange(n) * 7919 % CLASSES
    return ClipLabels(torch.arange(n), label, torch.ones(n), torch.ones(n, dtype=torch.bool))


def ours(n: int, heads: int, options: LossOptions) -> Side:
    """Our loss with its default memory."""
    maps, audio = (x.requires_grad_() for x in vectors(n, heads))
    clips = join_labels(n)

    def loss() -> Tensor:
        return global_loss(Embeddings(maps, audio), clips, options, World()).loss

    return Side([maps, audio], loss)


def as_images(n: int, heads: int) -> list[Tensor]:
    """The same vectors in public code's layout: an image [N, D, 7, 7] and a sound [N, D] for every head."""
    maps, audio = vectors(n, heads)
    found = []
    for head in range(heads):
        image = maps[:, head].transpose(1, 2).reshape(n, CHANNELS, SIDE, SIDE).contiguous()
        found += [image.requires_grad_(), audio[:, head].clone().requires_grad_()]
    return found


def eq3(similarity: Tensor, n: int) -> Tensor:
    """Eq. (2) with (3) on a matrix [N, N]."""
    label = join_labels(n).label
    same = (label[:, None] == label).float()
    positive = (similarity * same).sum(1) / same.sum(1)
    negative = (similarity * (1 - same)).sum(1) / (1 - same).sum(1)
    return -torch.log(positive.exp() / (positive.exp() + negative.exp())).mean()


def both_directions(logits: Tensor) -> Tensor:
    """InfoNCE of rows plus InfoNCE of columns."""
    target = torch.arange(len(logits))
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


def mean_einsum(n: int) -> Side:
    """Mean over the tensor of all pixels and sounds, Eq. (2) and (3)."""
    image, audio = as_images(n, 1)
    return Side(
        [image, audio], lambda: eq3(torch.einsum("nchw,mc->nmhw", image, audio).mean((2, 3)) / TAU, n)
    )


def mean_pooled(n: int) -> Side:
    """Pool the maps, multiply, Eq. (2) and (3) on the matrix [N, N]."""
    maps, audio = (x.requires_grad_() for x in vectors(n, 1))
    return Side([maps, audio], lambda: eq3(maps.mean(2).flatten(1) @ audio.flatten(1).T / TAU, n))


def max_einsum(n: int) -> Side:
    """EZ-VSL's form."""
    image, audio = as_images(n, 1)

    def loss() -> Tensor:
        logits = torch.einsum("nchw,mc->nmhw", image, audio) / TAU
        return both_directions(logits.flatten(2).max(2)[0])

    return Side([image, audio], loss)


def max_matmul(n: int) -> Side:
    """The same tensor as one matrix product."""
    maps, audio = (x.requires_grad_() for x in vectors(n, 1))

    def loss() -> Tensor:
        logits = (maps.flatten(0, 2) @ audio.flatten(1).T).view(n, -1, n) / TAU
        return both_directions(logits.amax(1))

    return Side([maps, audio], loss)


def attention_einsum(n: int) -> Side:
    """SLAVC's form, one of its two terms."""
    image1, audio1, image2, audio2 = inputs = as_images(n, 2)

    def loss() -> Tensor:
        identity = torch.einsum("nchw,mc->nmhw", image1, audio1) / TAU
        place = torch.einsum("nchw,mc->nmhw", image2, audio2) / TAU
        together = identity.softmax(1) * place.flatten(2).softmax(2).view_as(place)
        return F.cross_entropy(together.sum((2, 3)).clamp(min=1e-12).log(), torch.arange(n))

    return Side(inputs, loss)


def options_of(similarity: str) -> tuple[LossOptions, int]:
    """The options that compute what the rivals compute, and the number of heads."""
    own = LossOptions(positives=OwnClip(), objective=InfoNCE(), temperature=TAU)
    return {
        "mean": (LossOptions(temperature=TAU), 1),
        "max": (replace(own, similarity=MaxSimilarity(), direction="both"), 1),
        "attention": (replace(own, similarity=AttentionSimilarity()), 2),
    }[similarity]


RIVALS: dict[str, tuple[str, Callable[[int], Side], bool]] = {
    "mean": ("mean", mean_einsum, True),
    "mean-pooled": ("mean", mean_pooled, False),
    "max": ("max", max_einsum, True),
    "max-matmul": ("max", max_matmul, True),
    "attention": ("attention", attention_einsum, True),
}
"""Name of the row → our similarity, the rival, and whether the rival builds the tensor [N, N, P]."""


def available_memory() -> int:
    """Bytes that this machine can still give; a full-tensor form that needs more is left out."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def compare(
    name: str, n: int, repeats: int, threads: int, scores: Precision = "float32"
) -> list[dict[str, object]]:
    """Measure memory in the first run of each side, which warms up too, then time in turns."""
    torch.set_num_threads(threads)
    similarity, rival, builds = RIVALS[name]
    options, heads = options_of(similarity)
    if scores != "float32":
        name, options = f"{name}-{scores}", replace(options, scores=scores)
    fits = not builds or COPIES * 4 * n * n * SIDE * SIDE <= available_memory()
    sides = {"ours": ours(n, heads, options)} | ({"reference": rival(n)} if fits else {})
    memory = {key: peak_memory(side.loss, side.inputs) for key, side in sides.items()}
    seconds: dict[str, list[float]] = {key: [] for key in sides}
    processor: dict[str, list[float]] = {key: [] for key in sides}
    values: dict[str, float] = {}
    until = time.perf_counter() + SECONDS
    while len(seconds["ours"]) < repeats or (
        time.perf_counter() < until and len(seconds["ours"]) < MOST_REPEATS
    ):
        for key, side in sides.items():
            start, start_processor = time.perf_counter(), time.process_time()
            values[key] = side.run()
            seconds[key].append(time.perf_counter() - start)
            processor[key].append(time.process_time() - start_processor)
    middle = {key: statistics.median(found) for key, found in seconds.items()}
    spread = {f"{key}_spread": [min(found), max(found)] for key, found in seconds.items()}
    busy = {f"{key}_processor_seconds": statistics.median(found) for key, found in processor.items()}
    if "reference" in sides:
        busy["processor_ratio"] = busy["reference_processor_seconds"] / busy["ours_processor_seconds"]
    rows = [
        row(f"loss/{name}/N={n}/time", middle, "s", {"threads": threads, **spread, **busy, "value": values}),
        row(f"loss/{name}/N={n}/memory", memory, "bytes", {}),
    ]
    return rows


def row(name: str, measured: Mapping[str, float], unit: str, more: dict[str, object]) -> dict[str, object]:
    """One row; a ratio only where there is a reference."""
    ratio = {}
    if "reference" in measured:
        ratio = {"ratio": measured["reference"] / max(measured["ours"], 1e-12)}
    return {"benchmark": name, **measured, "unit": unit, **ratio, **more}


def traffic(world: World, options: LossOptions, n: int) -> int:
    """Bytes that this rank receives in one loss and its backward, `n` clips a rank."""
    maps, audio = (x.requires_grad_() for x in vectors(n, 1))
    world.traffic.clear()
    global_loss(Embeddings(maps, audio), join_labels(n), options, world).loss.backward()
    return sum(world.traffic.values())


def exchanged(clips: int) -> list[dict[str, object]]:
    """Count on two gloo ranks, and assert the formula."""
    by_class = LossOptions(positives=SameClass(number_of_classes=CLASSES))
    cases = {"max": options_of("max")[0], "mean": options_of("mean")[0], "mean-class-sums": by_class}
    rows = []
    for name, options in cases.items():
        (counted, _) = run_ranks(2, traffic, options, clips // 2)
        assert counted == bytes_received(options, clips, 2, CHANNELS), name
        everything = bytes_of_gathering_everything(clips, 2, CHANNELS, SIDE * SIDE)
        pooled = bytes_of_gathering_pooled(clips, 2, CHANNELS)
        for rival, reference in (("everything", everything), ("pooled", pooled)):
            measured = {"ours": counted, "reference": reference}
            rows.append(row(f"loss/bytes/{name}/beside-{rival}/N={clips}", measured, "bytes", {}))
    return rows


def main() -> None:
    """Print one line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", help="rows of these names, by commas: " + ", ".join([*RIVALS, "bytes"]))
    parser.add_argument("--sizes", default="256,1024,2048,4096", help="clips N, by commas")
    parser.add_argument("--repeats", type=int, default=3, help="turns at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scores", default="float32", help="precisions of our scores, by commas")
    arguments = parser.parse_args()
    os.environ.update(KEEP_MEMORY)
    fresh = multiprocessing.get_context("spawn")
    names = arguments.only.split(",") if arguments.only else [*RIVALS, "bytes"]
    for name in names:
        if name == "bytes":
            found = exchanged(512)
            print_rows(found, arguments.json)
            continue
        for n, scores in product(map(int, arguments.sizes.split(",")), arguments.scores.split(",")):
            if scores != "float32" and options_of(RIVALS[name][0])[0].is_linear:
                continue
            words = name, n, arguments.repeats, arguments.threads, scores
            with ProcessPoolExecutor(1, fresh) as process:
                found = process.submit(compare, *words).result()
            print_rows(found, arguments.json)


def print_rows(rows: list[dict[str, object]], as_json: bool) -> None:
    """Print rows as they come."""
    for found in rows:
        if as_json:
            print(json.dumps(found), flush=True)
        else:
            ratio = f"{found['ratio']:.2f}x" if "ratio" in found else ""
            print(f"{found['benchmark']:50} {found['ours']:>14.6g} {found['unit']:6} {ratio}", flush=True)


if __name__ == "__main__":
    main()
