"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """Return a number with its interval where it has one, as `0.772 [0.730, 0.815]`; `-` for None."""
    ends = "" if interval is None else " [{:.3f}, {:.3f}]".format(*interval)
    return ("-" if value is None else f"{value:.3f}") + ends


def align(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with aligned columns."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
