"""What a person or a program asks for, as plain functions with named, typed arguments. They print nothing."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes a sentence for the user. Rank 0 alone calls it."""
