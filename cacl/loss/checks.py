"""How a loss refuses combinations without meaning."""

from __future__ import annotations

from cacl.errors import UserError


class Meaningless(UserError, ValueError):
    """A combination without meaning. (A ValueError too, so that a recipe's check adds its file and field.)"""


def require(condition: bool, sentence: str) -> None:
    """Raise Meaningless with `sentence` unless `condition` holds."""
    if not condition:
        raise Meaningless(sentence)
