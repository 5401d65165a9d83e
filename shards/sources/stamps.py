"""Stamps: photographs of sounding things, cut out, on photographed backgrounds, with their own recordings.

The pictures and recordings are those of the Debian package `tuxpaint-stamps-default` (GPL-2), the backgrounds
those of `lomiri-wallpapers-*`. They are fetched once into the cache folder, `$CACL_CACHE` or `~/.cache/cacl`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from cacl.files import cache_folder, locked
from shards.clip import Array
from shards.progress import progress
from shards.sources import debian
from shards.sources.scenes import Bank, Object, Random, Scenes, Split

PACKAGES = ["tuxpaint-stamps-default", "lomiri-wallpapers-20.04", "lomiri-wallpapers-16.04"]
_GROUPS = ("animals", "hobbies", "household", "vehicles")
_PICTURE_SIDE = 256
"""Longest side of a cached stamp, pixels."""
_BACKGROUND_SIDE = 448
"""Shortest side of a cached background, pixels."""
_FAMILIES = {
    "cow_white": "cow",
    "doe": "deer",
    "drake": "duck",
    "dromedary": "camel",
    "hornet": "bee",
    "mountaingoat": "goat",
    "pig_golden2": "pig_golden",
    "ram": "sheep",
    "scissors_small_open": "scissors_small_closed",
    "sheep_lamb": "sheep",
}
"""Stamps that show the same kind of thing as another one: its name."""
_TEST_EVERY = 4
"""Every fourth background is kept for testing."""


@dataclass(frozen=True)
class Stamps(Scenes):
    """The 84 stamps that have a picture and a recording of their own, a class each."""

    name: ClassVar[str] = "stamps"

    def bank(self) -> Bank:
        """Return the stamps and backgrounds, fetched at the first call. Raises debian.Unavailable."""
        return _bank(self.storage.sample_rate)

    def parameters(self) -> dict[str, Any]:
        """Return the options, the generator's version and those of the packages."""
        return {**super().parameters(), "packages": _load_bank(self.storage.sample_rate).versions}


class _Stamps:
    """The bank as it lies in the cache: `versions.json` and `bank.npz`, decoded and reduced."""

    def __init__(self, folder: Path) -> None:
        self.versions: dict[str, str] = json.loads((folder / "versions.json").read_text())
        with np.load(folder / "bank.npz") as arrays:
            names = sorted(key.removeprefix("picture/") for key in arrays if key.startswith("picture/"))
            recordings = {name: arrays[f"sound/{name}"] for name in names}
            self.objects = [
                Object(
                    name,
                    sha256(recordings[name].tobytes()).hexdigest(),
                    arrays[f"picture/{name}"],
                    recordings[name],
                    _FAMILIES.get(name, name),
                )
                for name in names
            ]
            backgrounds = [
                arrays[key] for key in sorted(key for key in arrays if key.startswith("background/"))
            ]
        self.backgrounds: dict[Split, list[Array]] = {
            "train": [image for k, image in enumerate(backgrounds) if k % _TEST_EVERY],
            "test": backgrounds[::_TEST_EVERY],
        }

    def background(self, random: Random, split: Split, side: int) -> Array:
        """Return a random square of a random background, [S, S, 3] uint8."""
        image = self.backgrounds[split][int(random.integers(len(self.backgrounds[split])))]
        height, width = image.shape[:2]
        cut = int(random.integers(min(height, width) // 2, min(height, width) + 1))
        y, x = int(random.integers(height - cut + 1)), int(random.integers(width - cut + 1))
        square = Image.fromarray(image[y : y + cut, x : x + cut])
        return np.array(square.resize((side, side), Image.Resampling.BILINEAR))


@lru_cache(maxsize=1)
def _load_bank(sample_rate: int) -> _Stamps:
    folder = cache_folder() / f"stamps-1-{sample_rate}"
    with locked(folder.parent / "stamps.lock"):
        if not folder.exists():
            _make_bank(folder, sample_rate)
    return _Stamps(folder)


def _bank(sample_rate: int) -> Bank:
    return _load_bank(sample_rate)


def _make_bank(folder: Path, sample_rate: int) -> None:
    """Fetch the packages, decode and reduce what is used of them; `folder` appears when complete."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="stamps-") as temporary:
        work, ready = Path(temporary), Path(temporary) / "ready"
        ready.mkdir()
        versions = debian.fetch(PACKAGES, work)
        stamps = work / "files/usr/share/tuxpaint/stamps"
        recordings = [path for group in _GROUPS for path in sorted((stamps / group).rglob("*.ogg"))]
        arrays: dict[str, Array] = {}
        for path in progress(recordings, desc="reading stamps", unit="file"):
            # `_desc_` files are spoken names; a few recordings belong to drawings (svg) or to nothing.
            if "_desc" not in path.name and path.with_suffix(".png").exists():
                arrays[f"picture/{path.stem}"] = _picture(path.with_suffix(".png"))
                arrays[f"sound/{path.stem}"] = _recording(path, sample_rate)
        for path in progress(
            sorted((work / "files/usr/share/backgrounds").glob("*.jpg")), desc="reading backgrounds"
        ):
            arrays[f"background/{path.stem}"] = _background(path)
        np.savez(ready / "bank.npz", **arrays)  # type: ignore[arg-type]
        (ready / "versions.json").write_text(json.dumps(versions, sort_keys=True))
        shutil.move(ready, folder)


def _picture(path: Path) -> Array:
    picture = Image.open(path).convert("RGBA")
    picture = picture.crop(picture.getchannel("A").getbbox())
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.LANCZOS)
    return np.array(picture)


def _background(path: Path) -> Array:
    image = Image.open(path)
    image.draft("RGB", (2 * _BACKGROUND_SIDE, 2 * _BACKGROUND_SIDE))
    scale = _BACKGROUND_SIDE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return np.array(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def _recording(path: Path, sample_rate: int) -> Array:
    import soundfile
    from scipy.signal import resample_poly

    audio, rate = soundfile.read(path, always_2d=True)
    ratio = Fraction(sample_rate, rate)
    audio = resample_poly(audio.mean(axis=1), ratio.numerator, ratio.denominator)
    peak = max(float(np.abs(audio).max()), 1e-4)
    return np.rint(audio / peak * 0.95 * 32767).astype(np.int16)
