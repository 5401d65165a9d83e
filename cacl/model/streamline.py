"""Frozen networks in a form that computes the same numbers faster."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def streamline(module: nn.Module) -> None:
    """Bring a frozen network in eval mode into a form that computes the same faster, in place.

    Only for networks where the order of definition is the order of execution.
    """
    fold_batch_norm(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _is_pointwise(child):
                setattr(parent, name, Pointwise(child))


class Pointwise(nn.Conv2d):
    """A frozen 1×1 convolution that oneDNN computes on a CPU.

    On one thread, as ranks run there, PyTorch leaves those of a few images to another library, which takes
    twice the time on some processors.
    """

    def __init__(self, like: nn.Conv2d) -> None:
        # On "meta" nothing is drawn: the seed's numbers belong to what is learned.
        super().__init__(like.in_channels, like.out_channels, 1, bias=like.bias is not None, device="meta")
        self.weight, self.bias = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, C', h, w] of `x` [n, C, h, w]."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
            return super().forward(x)
        return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), (1, 1), 1)


def _is_pointwise(convolution: nn.Conv2d) -> bool:
    plain = convolution.groups == 1 and convolution.padding in ((0, 0), "same", "valid")
    return plain and convolution.kernel_size == convolution.stride == (1, 1)


def fold_batch_norm(module: nn.Module) -> None:
    """Fold every BatchNorm in eval mode into the convolution that is defined right before it, in place.

    Only for networks where the order of definition is the order of execution. timm's BatchNorm carries the
    activation, which stays.
    """
    children = list(module.named_children())
    for _, child in children:
        fold_batch_norm(child)
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, getattr(norm, "act", nn.Identity()))
