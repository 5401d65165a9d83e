"""The devices that a test is a function of."""

from __future__ import annotations

import pytest

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
SELDOM_HERE = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), CUDA], indirect=True
)
"""For a test whose processor's turn repeats what another room's tests check in every run."""
