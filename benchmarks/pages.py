"""Pages whose figures a script writes, between two marks."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError

END = "<!-- end of the rows -->\n"


def put(page: Path, benchmark: str, text: str) -> None:
    """Replace what stands between a page's marks of a benchmark.

    The marks are the lines `<!-- rows: written by benchmarks.X -->` and `<!-- end of the rows -->`; a program
    that lies elsewhere has its name in full. Raises UserError if the page lacks them.
    """
    program = benchmark if "." in benchmark else f"benchmarks.{benchmark}"
    begin = f"<!-- rows: written by {program} -->\n"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise UserError(
            f"{page}: lacks the lines {begin.strip()} and {END.strip()}; put them around the rows"
        )
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{END}{after}", encoding="utf-8")
