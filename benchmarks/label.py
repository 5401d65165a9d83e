"""Frames labeled a second, against a plain loop over files with the same classifier, on the same cores.

    python -m benchmarks.label --json [--clips 192] [--repeats 5]

The reference opens one JPEG file after another with PIL, resizes it and runs timm's EfficientNet-Lite0 on it.
Ours is what `cacl label` does: shards, fixed units, BatchNorm folded, a few images a thread. The same
frames, the same labels (checked). `network_share` is the share of our time that the network itself takes.
Repeats are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from cacl.labels.classifier import Classifier, build_classifier
from cacl.labels.classify import ClassifyFrames
from cacl.model.weights import efficientnet_file
from cacl.world import World
from launch.jobs.clips import IMAGE_SIZE, map_clips
from launch.jobs.pack import pack
from shards.sources.generated import Generated
from shards.store import Store, open_store


def reference(files: list[Path], network: nn.Module) -> np.ndarray:
    """Label files one by one, [N]."""
    labels = []
    with torch.no_grad():
        for file in files:
            frame = Image.open(file).convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1).unsqueeze(0) / 255
            labels.append(int(network((pixels - 0.5) / 0.5).argmax(1)))
    return np.array(labels)


def ours(store: Store, work: ClassifyFrames, folder: Path) -> np.ndarray:
    """Label the clips of `store` as `cacl label` does, [N]."""
    arrays = map_clips(
        store, work, folder / "labels.parquet", {}, world=World(), workers=0, description="label"
    )
    assert arrays is not None
    return arrays["label"]


class _Timed(Classifier):
    """A classifier that counts the time it takes."""

    def __init__(self, timed: Classifier) -> None:
        mean, std = (tuple(timed.get_buffer(name).flatten().tolist()) for name in ("mean", "std"))
        super().__init__(timed.name, timed.maps, timed.read, timed.network, mean, std)
        self.seconds = 0.0

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        start = time.perf_counter()
        result = super().forward(pixels)
        self.seconds += time.perf_counter() - start
        return result


def measure(clips: int, repeats: int, folder: Path) -> dict[str, object]:
    """Return the benchmark's line."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pack(Generated(clips=clips), folder / "shards", workers=len(os.sched_getaffinity(0)))
    store = open_store(folder / "shards")
    files = [folder / f"{index:06d}.jpg" for index in store.indices]
    for file, index in zip(files, store.indices, strict=True):
        file.write_bytes(store.read(int(index))["jpg"])
    network = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(efficientnet_file(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    timed = _Timed(build_classifier("efficientnet-lite0"))
    work = ClassifyFrames(timed)
    reference(files[:8], network)
    ours(store, work, folder / "warm")
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    shares, equal = [], 0.0
    for repeat in range(repeats):
        timed.seconds = 0.0
        start = time.perf_counter()
        found = ours(store, work, folder / f"repeat-{repeat}")
        seconds["ours"].append(time.perf_counter() - start)
        shares.append(timed.seconds / seconds["ours"][-1])
        start = time.perf_counter()
        expected = reference(files, network)
        seconds["reference"].append(time.perf_counter() - start)
        equal = float((found == expected).mean())
    rates = {side: [clips / value for value in values] for side, values in seconds.items()}
    medians = {side: statistics.median(values) for side, values in rates.items()}
    return {
        "benchmark": "label/total",
        "ours": round(medians["ours"], 2),
        "reference": round(medians["reference"], 2),
        "unit": "clips/s",
        "ratio": round(medians["ours"] / medians["reference"], 3),
        "spread": {side: [round(min(v), 2), round(max(v), 2)] for side, v in rates.items()},
        "network_share": round(statistics.median(shares), 3),
        "same_labels": round(equal, 4),
        "clips": clips,
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--clips", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line = measure(arguments.clips, arguments.repeats, Path(folder))
    print(json.dumps(line) if arguments.json else "\n".join(f"{key}: {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
