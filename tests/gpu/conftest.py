"""The device that a test is a function of: the processor in every run, a GPU in `make test-gpu`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.gpu.devices import CUDA


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A device, on which float32 is float32: cuDNN's convolutions round to 10 bits by default."""
    found = torch.device(request.param, 0) if request.param == "cuda" else torch.device("cpu")
    if found.type == "cuda" and not torch.cuda.is_available():
        pytest.fail("no CUDA device is visible, and -m gpu asks for one", pytrace=False)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield found
    torch.backends.cudnn.allow_tf32 = before
    if found.type == "cuda":
        torch.cuda.set_sync_debug_mode("default")
