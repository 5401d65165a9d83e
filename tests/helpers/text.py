"""What a text must hold."""

from __future__ import annotations

import re


def match_in(text: str, pattern: str, flags: int = 0) -> re.Match[str]:
    """The first match of `pattern` in `text`, which must have one."""
    found = re.search(pattern, text, flags)
    assert found is not None, f"{pattern!r} is not in: {text}"
    return found
