"""Train as SLAVC's public code does, as its users run it: a file a clip, a stock DataLoader, float32.

    python -m benchmarks.public_loop FOLDER --batch 64 --epochs 1 --workers 2

`FOLDER` has frames/ID.jpg and audio/ID.wav. What is computed follows github.com/stoneMo/SLAVC (train.py,
model.py, datasets.py): two ResNet-18, two heads, targets of a moving average in train mode, both directions
by einsum, Adam, a loss read every step and a checkpoint every epoch. Its measurement of the test set before
and after each epoch is left out. Prints one JSON object: clips, seconds of the epochs, loss by step.

Axes: `n` clips of a batch, `D` = 512 channels, `h` × `w` = 7 × 7 places.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import scipy.signal
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

TEMPERATURE, DROPOUT, DECAY = 0.03, 0.9, 0.999
SECONDS = 3.0


class Files(Dataset[tuple[Tensor, Tensor]]):
    """A frame file and a sound file a clip."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids = sorted(path.stem for path in (root / "frames").iterdir())
        self.transform = transforms.Compose(
            [
                transforms.Resize(246, transforms.InterpolationMode.BICUBIC),
                transforms.RandomCrop((224, 224)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        name = self.ids[number]
        image = self.transform(Image.open(self.root / "frames" / f"{name}.jpg").convert("RGB"))
        audio, rate = self.sound(self.root / "audio" / f"{name}.wav")
        _, _, power = scipy.signal.spectrogram(audio, rate, nperseg=512, noverlap=274)
        return image, torch.from_numpy(np.log(power + 1e-7) / 12).float().unsqueeze(0)

    def sound(self, path: Path) -> tuple[np.ndarray, int]:
        """Return the middle 3 s of a sound [T] in -1..1, and its rate in Hz."""
        return middle_of(path)


def middle_of(path: Path) -> tuple[np.ndarray, int]:
    """Return the middle 3 s of a sound [T] in -1..1, repeated where there are fewer, and its rate in Hz."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        rate = stream.rate
        assert stream.duration is not None and stream.time_base is not None
        start = max(float(stream.duration * stream.time_base) / 2 - SECONDS / 2, 0.0)
        resampler = av.AudioResampler(format="s16p", layout="mono", rate=rate)
        container.seek(int(start * 1_000_000))
        parts, first = [], None
        for frame in container.decode(audio=0):
            assert frame.pts is not None and frame.time_base is not None
            begins = float(frame.pts * frame.time_base)
            if begins + frame.samples / rate < start:
                continue
            if begins > start + SECONDS:
                break
            first = begins if first is None else first
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
    assert first is not None
    skipped = max(int((start - first) * rate), 0)
    samples = np.concatenate(parts, 1)[0, skipped:].astype(np.float64) / np.iinfo(np.int16).max
    length = int(SECONDS * rate)
    return np.tile(samples, length // len(samples) + 1)[:length], rate


class Branches(nn.Module):
    """An image and a sound network with two heads each."""

    def __init__(self) -> None:
        super().__init__()
        self.image: Any = resnet18()
        self.image.avgpool, self.image.fc = nn.Identity(), nn.Identity()
        self.audio: Any = resnet18()
        self.audio.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.audio.avgpool, self.audio.fc = nn.AdaptiveMaxPool2d((1, 1)), nn.Identity()
        self.dropout = nn.Dropout(DROPOUT)
        self.image_heads = nn.ModuleList(nn.Conv2d(512, 512, 1) for _ in range(2))
        self.audio_heads = nn.ModuleList(nn.Linear(512, 512) for _ in range(2))

    def forward(self, image: Tensor, audio: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return two maps [n, D, h, w] and two vectors [n, D] of unit length."""
        features = self.dropout(self.image(image).unflatten(1, (512, 7, 7)))
        heard = self.audio(audio)
        maps = [functional.normalize(head(features), dim=1) for head in self.image_heads]
        return maps, [functional.normalize(head(heard), dim=1) for head in self.audio_heads]


class Model(nn.Module):
    """Branches, and their moving average, which makes the targets."""

    def __init__(self) -> None:
        super().__init__()
        self.online = Branches()
        self.average = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        """Return the loss, 0-d."""
        maps, heard = self.online(image, audio)
        with torch.no_grad():
            for average, current in zip(self.average.parameters(), self.online.parameters(), strict=True):
                average.data = average.data * DECAY + current.data * (1 - DECAY)
            target_maps, target_heard = self.average(image, audio)
        labels = torch.arange(len(image))
        by_row = functional.cross_entropy(attend(maps, target_heard), labels)
        return by_row + functional.cross_entropy(attend(target_maps, heard), labels)


def attend(maps: list[Tensor], heard: list[Tensor]) -> Tensor:
    """Return the logarithm of which sound × where, summed over places, [n, n]."""
    cosine = [torch.einsum("nchw,mc->nmhw", *pair).flatten(2) for pair in zip(maps, heard, strict=True)]
    which, where = (cosine[0] / TEMPERATURE).softmax(1), (cosine[1] / TEMPERATURE).softmax(2)
    return (which * where).sum(2).log()


def train(root: Path, batch: int, epochs: int, workers: int) -> dict[str, Any]:
    """Train for some epochs; a checkpoint after each."""
    torch.manual_seed(0)
    model = Model().train()
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    loader = DataLoader(
        Files(root), batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    losses, started = [], time.perf_counter()
    for _ in range(epochs):
        for image, spectrogram in loader:
            loss = model(image, spectrogram)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, root / "latest.pth")
    return {"clips": batch * len(losses), "seconds": time.perf_counter() - started, "losses": losses}


def main() -> None:
    """Print the result as one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(train(arguments.folder, arguments.batch, arguments.epochs, arguments.workers)))


if __name__ == "__main__":
    main()
