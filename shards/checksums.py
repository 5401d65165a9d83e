"""Whether a file's content is what a manifest says it is."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError
from cacl.files import sha256_file


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise UserError if a file is missing or has another sha256; the sentence ends with `remedy`."""
    try:
        differs = sha256_file(path) != expected
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; {remedy}") from None
    if differs:
        raise UserError(f"{path}: is damaged (its sha256 differs); {remedy}")
