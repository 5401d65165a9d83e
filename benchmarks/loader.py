"""Clips a second of the loader against a per-file data set as the field writes it, on the same cores.

    python -m benchmarks.loader --json [--clips 256] [--cores 1] [--repeats 7]

Both sides end in the same tensors: normalized float images [n, 3, 224, 224], log spectrograms [n, 1, 257, t].
The reference reads original 640×360 frames and whole 10 s sounds, one file each: PIL open, resize to a short
side of 246, random crop, flip; scipy spectrogram of the middle 3 s, a clip at a time. Ours reads the same
clips as `cacl pack prepared` stores them. `loader/same-frames` gives the reference the packed frames,
one file each, to tell apart what packing gained. Repeats are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy.io.wavfile
import scipy.ndimage
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.public_loop import Files
from cacl.model.spectrograms import LogSpectrogram
from shards.decoders import DecoderOptions
from shards.decoders.augmentation import Augmentation
from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder
from shards.loader import training_batches
from shards.order import LaneOrder
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.sources.prepared import Prepared
from shards.store import Store, open_store

BATCH, MICRO_BATCH = 64, 16
RATE, SECONDS = 16000, 10
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Batches = Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]
"""From the epoch's number to its batches of images and spectrograms."""


class PerFile(Files):
    """The field's data set: a frame file and a sound file a clip, read whole."""

    def sound(self, path: Path) -> tuple[np.ndarray, int]:
        """Return the middle 3 s of a sound [T] in -1..1, and its rate in Hz."""
        rate, samples = scipy.io.wavfile.read(path)
        start = max(len(samples) - 3 * rate, 0) // 2
        return np.clip(samples[start : start + 3 * rate] / 32768, -1, 1), rate


def reference(root: Path, cores: int) -> Batches:
    """The per-file data set behind a stock DataLoader."""

    def batches(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        torch.manual_seed(epoch)
        yield from DataLoader(PerFile(root), BATCH, True, num_workers=_workers(cores), drop_last=True)

    return batches


def ours(store: Store, decoder: DecoderOptions, cores: int) -> Batches:
    """Our loader, with what the trainer does to micro-batches: normalize, spectrogram."""
    order = LaneOrder(store.shards, global_batch_size=BATCH, lanes=8, seed=0)
    spectrogram = LogSpectrogram(rate=RATE)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) * 255 for v in (MEAN, DEVIATION))
    workers = cores if isinstance(decoder, DaliDecoder) else _workers(cores)

    def batches(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in training_batches(
            store,
            order,
            (epoch, 0),
            epochs=epoch + 1,
            rank=0,
            size=1,
            decoder=decoder,
            augmentation=Augmentation(sample_rate=RATE),
            workers=workers,
        ):
            pieces = zip(batch.images.split(MICRO_BATCH), batch.waveforms.split(MICRO_BATCH), strict=True)
            for images, waveforms in pieces:
                yield images.float().sub_(mean).div_(deviation), spectrogram(waveforms)

    return batches


def _workers(cores: int) -> int:
    """One core decodes in this process; more are used by as many worker processes."""
    return 0 if cores == 1 else cores


def write_clips(root: Path, clips: int) -> None:
    """Write frames of 640×360 and sounds of 10 s as files."""
    for folder in ("frames", "audio"):
        (root / folder).mkdir(parents=True)
    for number in range(clips):
        random = np.random.default_rng(number)
        Image.fromarray(picture(random, 360, 640)).save(root / "frames" / f"{number:06d}.jpg", quality=90)
        audio = random.normal(0, 3000, RATE * SECONDS).astype(np.int16)
        scipy.io.wavfile.write(root / "audio" / f"{number:06d}.wav", RATE, audio)


def picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return [H, W, 3] uint8 with detail at every scale: as many bytes of JPEG as a photograph has."""
    layers = []
    for size in (64, 16, 4):
        coarse = random.random((height // size + 1, width // size + 1, 3))
        layers.append(np.kron(coarse, np.ones((size, size, 1)))[:height, :width])
    return (scipy.ndimage.gaussian_filter(sum(layers) / 3, (1, 1, 0)) * 255).astype(np.uint8)


def write_packed_frames(store: Store, root: Path) -> int:
    """Write what the shards hold as one file a frame and a sound; return the mean bytes of a frame."""
    for folder in ("frames", "audio"):
        (root / folder).mkdir(parents=True)
    for index in store.indices.tolist():
        members = store.read(index)
        (root / "frames" / f"{index:06d}.jpg").write_bytes(members["jpg"])
        (root / "audio" / f"{index:06d}.wav").write_bytes(members["wav"])
    return sum(path.stat().st_size for path in (root / "frames").iterdir()) // len(store.indices)


def clips_a_second(batches: Batches, epoch: int) -> tuple[float, float]:
    """Time one epoch, from the first batch asked for to the last one there; also by processor time."""
    start, processor, clips = time.perf_counter(), time.process_time(), 0
    for images, recordings in batches(epoch):
        assert images.shape[1:] == (3, 224, 224) and recordings.shape[1:] == (1, 257, 200), (
            "not the same tensors"
        )
        clips += len(images)
    return clips / (time.perf_counter() - start), clips / (time.process_time() - processor)


def main() -> None:
    """Print one JSON object a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line (the only form there is)")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_clips(root / "files", arguments.clips)
        plan = make_plan(Prepared(root=root / "files"))
        pack(plan, root / "shards")
        merge(plan.head, root / "shards", 0.0)
        store = open_store(root / "shards")
        frame_bytes = write_packed_frames(store, root / "packed")
        sides: dict[str, Batches] = {
            "files": reference(root / "files", arguments.cores),
            "packed files": reference(root / "packed", arguments.cores),
            "torch": ours(store, TorchDecoder(), arguments.cores),
            "dali": ours(store, DaliDecoder(device="cpu"), arguments.cores),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for repeat in range(arguments.repeats + 1):
            for name, batches in sides.items():
                speed = clips_a_second(batches, repeat)
                if repeat:  # the first round warms up
                    found[name].append(speed)
    print_rows(found, arguments, frame_bytes)


def print_rows(
    found: dict[str, list[tuple[float, float]]], arguments: argparse.Namespace, frame_bytes: int
) -> None:
    """Print the rows of `found`, clips a second by side and repeat."""
    middle = {name: statistics.median(speed for speed, _ in speeds) for name, speeds in found.items()}
    better = max("torch", "dali", key=middle.__getitem__)
    for row, one, other in (
        ("loader/torch", "torch", "files"),
        ("loader/dali", "dali", "files"),
        ("loader/same-frames", better, "packed files"),
    ):
        pairs = list(zip(found[one], found[other], strict=True))
        ratios = [ours / theirs for (ours, _), (theirs, _) in pairs]
        values = {
            "benchmark": row,
            "ours": round(middle[one], 1),
            "reference": round(middle[other], 1),
            "unit": "clips/s",
            "ratio": round(statistics.median(ratios), 2),
            "spread": [round(min(ratios), 2), round(max(ratios), 2)],
            "repeats": arguments.repeats,
            "clips": arguments.clips,
            "cores": arguments.cores,
            "decoder": one,
            "stored_frame_bytes": frame_bytes,
        }
        if arguments.cores == 1:  # all of it in this process: what other loads on the machine cannot disturb
            by_processor = [ours / theirs for (_, ours), (_, theirs) in pairs]
            values["processor_time_ratio"] = round(statistics.median(by_processor), 2)
        print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
