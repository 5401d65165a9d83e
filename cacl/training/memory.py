"""Memory that a process keeps for itself instead of giving it back and asking again.

glibc gives large tensors back to the system as soon as they are freed, and each step of a training asks for
the same ones anew. The system hands out pages of zeros one by one: a sixth of a step's time on a processor.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's numbers of what `mallopt` sets (malloc.h)."""
_NEVER, _DEFAULT_TRIM_THRESHOLD, _DEFAULT_MMAP_MAX = -1, 128 * 2**10, 65_536


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed for later tensors of this process; give it back at the end.

    Without glibc this does nothing.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):  # musl has none
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        library.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        library.malloc_trim(0)
