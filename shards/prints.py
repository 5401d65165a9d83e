"""Prints: short codes of a clip's frame and sound that tell the same one again, encoded or scaled anew.

Frames: the perceptual hash of 256 bits of the library ImageHash, signs of the lowest frequencies of the gray
picture. Sounds: J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): every
11.6 ms a word of 32 bits, which say whether the difference of two neighboring bands' energies has grown.

Axes: `N` clips, `T` samples, `W` words of a sound.
"""

from __future__ import annotations

import io
import math
import wave
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import rfft, rfftfreq
from scipy.signal import resample_poly

from cacl.errors import UserError
from cacl.files import cache_folder, written
from cacl.media.still import FRAMES, UnreadablePicture, open_picture
from shards.alike import Frames, Words
from shards.progress import progress
from shards.store import Store
from shards.workers import Reading, Report, run_jobs

_VERSION = 1
"""Of the prints and of the files that hold them."""
_SIDE = 16
"""Frequencies of a frame's print, in either direction."""
_FLAT = 4.0
"""Levels of 255: a frame whose gray deviates by less is of one color, and its print would be noise."""
_RATE = 5000
"""Hz, after resampling; the bands lie below 2 kHz, which every codec keeps."""
_RATES = 4000, 192_000
"""Hz: a sound of a lower rate lacks some of the bands, and none of a higher one is packed."""
_WINDOW, _STEP = 1856, 58
"""Samples: 0.37 s, of which each is a 32nd further."""
_BANDS = np.geomspace(300, 2000, 34)
"""Hz, the 33 bands' edges."""
_HANN = np.hanning(_WINDOW).astype(np.float32)
_EDGES = np.searchsorted(rfftfreq(_WINDOW, 1 / _RATE), _BANDS)
"""The first frequency of each band, and the one behind the last."""
_QUIET = 75.0
"""dB below a sine of full scale: what is quieter is noise of 16 bits, or of a codec, and has no word."""
_CHUNK = 1024
"""Words that are computed at a time."""


@dataclass(frozen=True)
class Prints:
    """The prints of a data set's clips."""

    frames: Frames
    """[N, 4] by the order of indices; zeros where a frame is of one color or cannot be decoded."""
    sounds: Words
    """[N, W]; 0 where nothing is heard."""


def frame_print(picture: Image.Image) -> Frames:
    """Return the print of a frame, [4] uint64; zeros for one of a single color."""
    import imagehash

    gray = picture.convert("L")
    if np.asarray(gray.resize((4 * _SIDE, 4 * _SIDE))).std() < _FLAT:
        return np.zeros(4, np.uint64)
    return np.packbits(imagehash.phash(gray, hash_size=_SIDE).hash).view(np.uint64)


def sound_print(samples: npt.NDArray[np.float32], rate: int) -> Words:
    """Return the print of a sound [T] in -1..1, [W] uint32; 0 stands where it is silent or too quiet.

    It is empty for a sound of half a second or less, and for a rate that has not all the bands.
    """
    if not _RATES[0] <= rate <= _RATES[1]:
        return np.zeros(0, np.uint32)
    shared = math.gcd(rate, _RATE)
    low = resample_poly(samples, _RATE // shared, rate // shared).astype(np.float32)
    if len(low) < _WINDOW + _STEP:
        return np.zeros(0, np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(low, _WINDOW)[::_STEP]
    energies = np.concatenate([_energies(windows[at : at + _CHUNK]) for at in range(0, len(windows), _CHUNK)])
    bits = np.diff(np.diff(energies, axis=1), axis=0) > 0
    words = np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)
    full = _HANN.sum() ** 2 / 4  # of a sine, in the bin at its frequency
    loud = energies.sum(1) > full * 10 ** (-_QUIET / 10)
    return np.where(loud[1:] & loud[:-1], np.maximum(words, 1), 0)


def _energies(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the energy of each band, [n, 33], in windows [n, 0.37 s]."""
    spectrum = np.abs(rfft(windows * _HANN, axis=1)[:, : _EDGES[-1]]) ** 2
    return np.add.reduceat(spectrum, _EDGES[:-1], axis=1)


def prints_of(store: Store, workers: int = 1) -> Prints:
    """Return the prints of all clips of a data set, computed by `workers` processes or kept from before.

    They are kept shard by shard in the cache folder under the data set's fingerprint: what is stopped goes
    on. A frame or sound that cannot be decoded has no print.
    """
    folder = cache_folder() / "prints" / f"{store.fingerprint},version={_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    maker = PrintMaker(store, folder)
    parts = [maker.kept(number) for number in range(len(store.shards))]
    missing = [number for number, part in enumerate(parts) if part is None]
    clips = sum(len(store.shards[number]) for number in missing)
    with progress(
        desc=f"prints of {store.files.location}", total=clips, unit="clip", disable=not clips
    ) as bar:
        for event in run_jobs(maker, [[number] for number in missing], workers):
            bar.update(isinstance(event, Reading))
    made = [part or maker.kept(number) for number, part in enumerate(parts)]
    whole = [part for part in made if part is not None]
    if len(whole) < len(parts):
        raise UserError(f"{folder}: a file was damaged or removed meanwhile; run again")
    frames = [np.empty((0, 4), np.uint64), *(part["frames"] for part in whole)]
    return Prints(np.concatenate(frames), _stacked([row for part in whole for row in part["sounds"]]))


@dataclass(frozen=True)
class PrintMaker:
    """The job of a process that computes prints: a file for each shard."""

    store: Store
    folder: Path

    def __call__(self, number: int, crashed: dict[int, str], report: Report) -> None:
        """Write the prints of a shard."""
        index = self.store.shards[number]
        frames, sounds = np.zeros((len(index), 4), np.uint64), [np.empty(0, np.uint32) for _ in index]
        for row, clip in enumerate(map(int, index)):
            report(clip)
            if clip in crashed:
                continue
            members = self.store.read(clip)
            with suppress(UnreadablePicture):
                frames[row] = frame_print(open_picture(members.get("jpg", b""), FRAMES))
            with suppress(wave.Error, EOFError, ValueError):
                sounds[row] = sound_print(*_decoded(members.get("wav", b"")))
        with written(self._file(number)) as partial, partial.open("wb") as file:
            np.savez(file, format_version=_VERSION, index=index, frames=frames, sounds=_stacked(sounds))

    def kept(self, number: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return what was written of a shard, None where it was not or is damaged."""
        try:
            with np.load(self._file(number)) as arrays:
                found = dict(arrays)
            right = found["format_version"] == _VERSION and {"frames", "sounds"} <= found.keys()
            return found if right and np.array_equal(found["index"], self.store.shards[number]) else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def _file(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.npz"


def _stacked(sounds: Sequence[Words]) -> Words:
    """Return prints [N, W] of sounds that differ in length, zeros behind those that are shorter."""
    stacked = np.zeros((len(sounds), max(map(len, sounds), default=0)), np.uint32)
    for row, words in zip(stacked, sounds, strict=True):
        row[: len(words)] = words
    return stacked


def _decoded(wav: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """Return the samples [T] of a stored sound, 16-bit mono, and its rate."""
    with wave.open(io.BytesIO(wav)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        return samples.astype(np.float32) / np.float32(2**15), sound.getframerate()
