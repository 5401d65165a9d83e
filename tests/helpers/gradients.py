"""The gradient of what must have one."""

from __future__ import annotations

from torch import Tensor


def gradient_of(leaf: Tensor) -> Tensor:
    """The gradient that a backward has left on `leaf`."""
    assert leaf.grad is not None, "no gradient has come here"
    return leaf.grad
