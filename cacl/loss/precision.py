"""In what precision pairs are scored: factors rounded, sums in float32.

A precision means the same numbers on every device; hardware decides how fast they come. bfloat16 rounds where
nothing multiplies bfloat16 too. tf32 is float32 where there is no tf32. float64 is never rounded.

Axes: `m` and `n` vectors, `D` channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacl.loss.kernel import is_ampere

Precision = Literal["float32", "tf32", "bfloat16"]
_ROUNDING = {"tf32": 2**-11, "bfloat16": 2**-8}
"""What a factor is rounded by, at most, as a share of it."""
_FLAGS = {"tf32": "tf32", "bfloat16": "bf16"}
"""What torch calls them."""
_FLAG = Lock()
"""torch's flags are of the whole process: who has set one puts it back before the next one reads it."""


def in_effect(asked: Precision, device: torch.device) -> Precision:
    """Return what a device computes scores in.

    >>> in_effect("bfloat16", torch.device("cpu")), in_effect("tf32", torch.device("cpu"))
    ('bfloat16', 'float32')
    """
    return "float32" if asked == "tf32" and not is_ampere(device) else asked


def shortfall(asked: Precision, device: torch.device) -> str:
    """Return the sentence that says what scores are not computed in, "" if they are."""
    if in_effect(asked, device) == asked:
        return ""
    return f"loss.scores: {asked} needs an NVIDIA GPU from Ampere on; scores are float32 on {device}"


def precision_of(asked: Precision, vectors: Tensor) -> Precision:
    """Return what vectors are multiplied in; float32 leaves them as they are."""
    return in_effect(asked, vectors.device) if vectors.dtype == torch.float32 else "float32"


def round_to(precision: Precision, x: Tensor) -> Tensor:
    """Round float32 to the nearest number of a precision.

    That of tf32 is a float32 with 10 bits of fraction; tensor cores would cut the other 13 bits off.
    """
    if precision == "bfloat16":
        return x.bfloat16()
    if precision == "tf32":
        high = x * (2**13 + 1)  # Veltkamp's split; adding to the bits would turn some NaN into -0
        return high - (high - x)
    return x


def nearness(precision: Precision, channels: int) -> float:
    """Return how near two products of unit vectors are that rounding may exchange.

    It is 4.7 times the root mean square of what rounding does to a difference where all `channels` have
    a like share in the products: rounding errors of single channels even out.
    """
    return 4 * _ROUNDING[precision] / channels**0.5


def factor(precision: Precision, x: Tensor) -> Tensor:
    """Round a factor of `multiply`, in the type that the device multiplies."""
    rounded = round_to(precision, x)
    return rounded if precision != "bfloat16" or is_ampere(x.device) else rounded.float()


def multiply(precision: Precision, a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices of `factor`s, float32."""
    if a.dtype == torch.bfloat16:
        return torch.mm(a, b, out_dtype=torch.float32)
    with _fast(precision, a):
        return a @ b


@contextmanager
def _fast(precision: Precision, factors: Tensor) -> Iterator[None]:
    """Let hardware round what it multiplies: rounded factors stay as they are."""
    if precision == "float32" or (precision == "bfloat16" and factors.is_cuda):
        yield
        return
    flags = flags_of(factors.is_cuda)
    with _FLAG:
        before = flags.fp32_precision
        flags.fp32_precision = _FLAGS[precision]
        try:
            yield
        finally:
            flags.fp32_precision = before


def flags_of(is_cuda: bool) -> Any:
    """Return torch's flags of matrix products, of GPUs or of the processor."""
    return (torch.backends.cuda if is_cuda else torch.backends.mkldnn).matmul


def product(a: Tensor, b: Tensor, precision: Precision = "float32", offset: Tensor | None = None) -> Tensor:
    """Return the products [m, n] of vectors [m, D] and [n, D], with gradient.

    `offset` [n], without gradient, is added to every row.

    >>> a, b = torch.tensor([[1.0, 1 + 2**-9]]), torch.eye(2)
    >>> product(a, b).tolist(), product(a, b, "bfloat16").tolist()
    ([[1.0, 1.001953125]], [[1.0, 1.0]])
    """
    precision = precision_of(precision, a)
    if precision == "float32":
        return a @ b.T if offset is None else torch.addmm(offset, a, b.T)
    found: Tensor = _Product.apply(a, b, precision)
    return found if offset is None else found.add_(offset)


class _Product(torch.autograd.Function):
    """`product` of rounded factors, one of which is the gradient in its turn.

    Backward rounds once more what is given, which takes no memory in between.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, precision: Precision) -> Tensor:
        ctx.precision = precision
        ctx.save_for_backward(a, b)
        return multiply(precision, factor(precision, a), factor(precision, b).T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (a, b), precision = ctx.saved_tensors, ctx.precision
        gradient = factor(precision, gradient)
        of_a = multiply(precision, gradient, factor(precision, b)) if ctx.needs_input_grad[0] else None
        of_b = multiply(precision, gradient.T, factor(precision, a)) if ctx.needs_input_grad[1] else None
        return of_a, of_b, None
