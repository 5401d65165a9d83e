"""What a machine's device does: its own limits, the training step by part, the loss, decoding, evaluation.

Seconds are medians; a GPU is timed by events.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from cacl.errors import UserError
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.systems import maps_of, measure_maps
from cacl.model.localizer import Localizer
from cacl.types import Batch
from launch.jobs.bench_training import batch_of, losses, pair, steps
from launch.jobs.pack import pack
from launch.jobs.timing import Row, Sizes, time_of, wait
from shards.clip import Storage
from shards.decoders import DecoderOptions
from shards.decoders.augmentation import Augmentation
from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder
from shards.loader import training_batches
from shards.order import LaneOrder
from shards.sources.generated import Generated
from shards.store import open_store


def bench(device: torch.device, sizes: Sizes) -> dict[str, Callable[[], Iterator[Row]]]:
    """Return the parts of a bench by name, each of which measures when its rows are asked for."""
    parts = {"device": limits, "step": steps, "loss": losses, "decode": decoding, "evaluate": evaluation}
    return {name: partial(part, device, sizes) for name, part in parts.items()}


def limits(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure what no training can exceed: a matrix product, and a copy, counting bytes read and written."""
    side = sizes.square
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        seconds = time_of(lambda: a @ b, device, sizes.seconds)  # noqa: B023
        rates = [2 * side**3 / one / 1e12 for one in seconds]
        yield Row(
            f"device/matmul/{str(dtype).removeprefix('torch.')}",
            statistics.median(rates),
            "TFLOP/s",
            (min(rates), max(rates)),
        )
    source = torch.randn(sizes.copied_mib * 2**18, device=device)
    target = torch.empty_like(source)
    rates = [
        2 * source.nbytes / one / 1e9 for one in time_of(lambda: target.copy_(source), device, sizes.seconds)
    ]
    yield Row("device/copy", statistics.median(rates), "GB/s", (min(rates), max(rates)))


def decoding(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure clips a second of the loader, from packed shards to batches on the device."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"
        pack(Generated(clips=sizes.packed, storage=Storage()), clips, workers=cores)
        store = open_store(str(clips))
        size = min(128, sizes.packed // 2)
        order = LaneOrder(store.shards, global_batch_size=size, lanes=1, seed=0)
        decoders: dict[str, DecoderOptions] = {"torch": TorchDecoder(), "dali": DaliDecoder()}
        for name, decoder in decoders.items():
            epochs = -(-sizes.decoded // (size * order.batches_per_epoch)) + 1
            batches = training_batches(
                store, order, epochs=epochs, decoder=decoder, augmentation=Augmentation(), workers=cores
            )
            try:
                rate = _rate(batches, device, 2 * cores)
            except UserError as error:
                yield Row(f"decode/{name}", None, "clips/s", more={"why": str(error)})
                continue
            yield Row(
                f"decode/{name}", rate, "clips/s", more={"cores": cores, "clips": epochs * sizes.packed}
            )


def _rate(batches: Iterator[Batch], device: torch.device, ahead: int) -> float:
    """Return clips a second after the first `ahead` batches, which workers have ready early."""
    clips, started = 0, 0.0
    for number, batch in enumerate(batches):
        images, _ = batch.images.to(device), batch.waveforms.to(device)
        if number == ahead:
            wait(device)
            started = time.perf_counter()
        elif number > ahead:
            clips += len(images)
    wait(device)
    return clips / (time.perf_counter() - started)


def evaluation(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure clips a second through the model and through a protocol."""
    protocol = PROTOCOLS["vggss"]
    draw = torch.Generator().manual_seed(0)
    maps = (torch.rand(sizes.measured, 7, 7, generator=draw) - 0.5).to(device)
    truth = torch.zeros(sizes.measured, protocol.size, protocol.size, dtype=torch.bool, device=device)
    truth[:, 50:150, 60:160] = True
    pieces = list(range(0, sizes.measured, 256))

    def measure() -> None:
        for start in pieces:
            rows = slice(start, start + 256)
            measure_maps(maps[rows], {"boxes": truth[rows]}, protocol)

    yield _per_clip("evaluate/vggss", time_of(measure, device, sizes.seconds), sizes.measured)
    batch, model = batch_of(sizes.micro, sizes.side), Localizer(pair()).eval().to(device)
    images, waveforms = batch.images.to(device), batch.waveforms.to(device)
    find = maps_of(model)
    for precision in ("float32", "bfloat16"):
        half = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
        with half:
            seconds = time_of(lambda: find(images, waveforms), device, sizes.seconds)
        yield _per_clip(f"evaluate/model/{precision}", seconds, sizes.micro)


def _per_clip(name: str, seconds: list[float], clips: int) -> Row:
    rates = [clips / one for one in seconds]
    return Row(name, statistics.median(rates), "clips/s", (min(rates), max(rates)), {"clips": clips})
