"""Files of others' models: in the folder `CACL_MODELS`, or fetched once.

They come from where their authors publish them. Only a file with the published content is used.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cacl.errors import UserError, shorten
from cacl.files import cache_folder, locked, sha256_file, written

_SILENCE, _LONGEST = 20.0, 600.0
"""Seconds that a server may say nothing, and that a file may take in all."""
_PIECE = 2**20
"""Bytes."""


@dataclass(frozen=True)
class ModelFile:
    """A file that its authors publish."""

    file: str
    """Its name in `CACL_MODELS`."""
    address: str
    sha256: str
    """Of what lies at `address`."""
    license: str
    same: tuple[str, ...] = ()
    """sha256 of other forms of the file, which serve as well."""


PUBLISHED = {
    "mn04": ModelFile(
        "mn04_as_mAP_432.pt",
        "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        "MIT",
    ),
    "yamnet": ModelFile(
        "yamnet.tflite",
        "https://storage.googleapis.com/mediapipe-models/audio_classifier/yamnet/float32/1/yamnet.tflite",
        "4d8b4a53282dc83ef04e3e7dbc4fbc98082e34e44ed798e16c3a0cdd4c584faf",
        "Apache-2.0",
        # As converted by TensorFlow's authors, without and with the names of its classes.
        same=(
            "469be6a3421cbc52cf97e9f2f966cba984198e8e7af9854d68b3e3ebb1e04194",
            "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
        ),
    ),
    "yolox-nano": ModelFile(
        "yolox_nano.onnx",
        "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.onnx",
        "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
        "Apache-2.0",
    ),
}
"""By the name of the model."""


def model_file(name: str, published: Mapping[str, ModelFile] = PUBLISHED) -> Path:
    """Return the file of the model `name`: from `CACL_MODELS`, else from the cache.

    It is fetched where it is in neither. Raises UserError for a model that nobody publishes, a file with
    another content, and one that cannot be fetched.
    """
    if name not in published:
        raise UserError(
            f"{name}: no address of its weights is known (known are {', '.join(published)}); name their file"
        )
    model = published[name]
    if (named := os.environ.get("CACL_MODELS")) and (place := Path(named) / model.file).exists():
        return _checked(place, model)
    kept = cache_folder() / "models" / model.file
    with locked(kept.with_name(f".{model.file}.lock")):
        if not kept.exists():
            _fetch(name, model, kept)
        return _checked(kept, model)


def _checked(file: Path, model: ModelFile) -> Path:
    if sha256_file(file) not in (model.sha256, *model.same):
        raise UserError(f"{file}: is not the file of {model.address}; remove it, or fetch it anew from there")
    return file


def _fetch(name: str, model: ModelFile, kept: Path) -> None:
    """Write `kept` whole or not at all."""
    until, digest = time.monotonic() + _LONGEST, hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(model.address, timeout=_SILENCE) as answer,
            written(kept) as partial,
            partial.open("wb") as file,
        ):
            while piece := answer.read1(_PIECE):
                digest.update(piece)
                file.write(piece)
                if time.monotonic() > until:
                    raise TimeoutError(f"it takes more than {_LONGEST:.0f} s")
            if digest.hexdigest() != model.sha256:
                raise ValueError("what came has another sha256")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f"{name}: {model.file} cannot be fetched from {model.address} ({shorten(error)}); put it into a "
            "folder and name the folder by CACL_MODELS"
        ) from error
