"""Refusal of combinations that have no meaning."""

from __future__ import annotations

from cacl.errors import UserError


class Meaningless(UserError, ValueError):
    """A combination without meaning.

    It is a ValueError too, so that a recipe's check adds file and field.
    """


def require(condition: bool, sentence: str) -> None:
    """Raise Meaningless with `sentence` unless `condition` holds."""
    if not condition:
        raise Meaningless(sentence)
