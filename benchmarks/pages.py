"""Pages whose figures a script writes, between two marks."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError

END = "<!-- end of the rows -->\n"


def put(page: Path, benchmark: str, text: str) -> None:
    """Replace what stands between a page's marks of a benchmark.

    The marks are the lines `<!-- rows: written by benchmarks.X -->` and `<!-- end of the rows -->`. Raises
    UserError if the page lacks them.
    """
    begin = f"<!-- rows: written by benchmarks.{benchmark} -->\n"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise UserError(
            f"{page}: lacks the lines {begin.strip()} and {END.strip()}; put them around the rows"
        )
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{END}{after}", encoding="utf-8")
