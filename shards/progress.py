"""Progress bars with time left, which fill no log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_LOG_INTERVAL = 10.0
"""Seconds between two lines where standard error is no terminal."""


def progress(items: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """Return a bar over `items`, or one to be updated; options are tqdm's."""
    return tqdm(items, mininterval=0.1 if sys.stderr.isatty() else _LOG_INTERVAL, **options)
