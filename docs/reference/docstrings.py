"""Docstrings as autodoc wants them: our plain prose as reStructuredText."""

from __future__ import annotations

import re


def to_rst(lines: list[str]) -> list[str]:
    """Return a docstring's lines with code in double backticks and indented examples as code.

    What stands in an example, a `>>>` block included, is left as it is.
    """
    found: list[str] = []
    is_example = False
    for k, line in enumerate(lines):
        begins = line.startswith("    ") and (not k or not lines[k - 1].strip())
        if begins and not is_example:
            found += [".. code-block:: none" if _is_listing(line) else ".. code-block:: python", ""]
        is_example = line.startswith((">>>", "...", "    ")) or (is_example and bool(line.strip()))
        found.append(line if is_example else _prose(line))
    return found


def short_signature(signature: str) -> str:
    """Return a signature without what is no code: functions as defaults, pydantic's annotations."""
    signature = re.sub(r"<factory>|<function [^<>]*(<lambda>)?>", "...", signature)
    return re.sub(r"~?[\w.]*\bAnnotated\[(.*?), FieldInfo\([^()]*\)\]", r"\1", signature)


def _is_listing(line: str) -> bool:
    return re.search(r"\S {2,}\S", line.split("#")[0]) is not None


def _prose(line: str) -> str:
    """Return a line of prose: code marked as such, and everything else that means something escaped."""
    parts = re.split(r"(`[^`]+`|\*\w[^*]*\w\*)", line)
    return "".join(_span(part) for part in parts)


def _span(part: str) -> str:
    """Return code, emphasis, or plain words in which nothing means anything else but a page's name."""
    if part.startswith("`"):
        return f"`{part}`"
    if re.fullmatch(r"\*.*\*", part):
        return part
    return re.sub(r"\bdocs/([\w-]+)\.md\b", r":doc:`\g<0> </\1>`", re.sub(r"([*|_])", r"\\\1", part))
