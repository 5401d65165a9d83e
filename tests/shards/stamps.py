"""Whether the scenes of Debian's pictures and sounds can be made on this machine."""

from __future__ import annotations

from functools import lru_cache

from shards.sources import debian
from shards.sources.stamps import _load_bank


@lru_cache(maxsize=1)
def stamps_at_hand() -> bool:
    """Whether Debian's packages can be had; they are fetched into the cache folder once."""
    try:
        _load_bank(16000)
    except debian.Unavailable:
        return False
    return True
