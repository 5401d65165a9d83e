"""Which kernel computes: operations of torch, or Triton on a GPU that can run it."""

from __future__ import annotations

import os
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from cacl.errors import UserError

Kernel = Literal["auto", "torch", "triton"]
AUTO: Kernel = "triton"
"""What `auto` is on a GPU that can run Triton, by the figures in docs/loss.md."""


def by_triton(kernel: Kernel, vectors: Tensor) -> bool:
    """Return whether Triton is to compute; float64 is always torch's.

    Raises UserError if it is `triton` that was chosen, and cannot run here.
    """
    chosen = AUTO if kernel == "auto" and vectors.is_cuda else kernel
    if chosen != "triton" or vectors.dtype != torch.float32:
        return False
    obstacle = _obstacle(vectors.device)
    if obstacle and kernel == "triton":
        raise UserError(f"loss.kernel: triton cannot run here: {obstacle}; choose auto or torch")
    return not obstacle


@cache
def is_ampere(device: torch.device) -> bool:
    """Say whether a device is NVIDIA's Ampere or later, and so multiplies tf32."""
    has_cuda = device.type == "cuda" and not torch.version.hip
    return has_cuda and torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _obstacle(device: torch.device) -> str:
    """Return what keeps Triton from running on a device, "" if nothing does."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""  # Triton's interpreter runs everywhere
    if device.type != "cuda":
        return f"it needs a GPU, and the vectors are on {device}"
    if not is_ampere(device):
        return f"it needs NVIDIA's Ampere or later, and this is {torch.cuda.get_device_name(device)}"
    try:
        import triton

        triton.runtime.driver.active.get_current_target()  # builds a link to the driver, by a C compiler
    except Exception as error:  # of any kind: a package, a compiler or headers that are not there
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""
