"""The one error that is meant for a person to read, and what its sentence shows of a value."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

LONGEST = 2000
"""Characters of a sentence, whatever the file holds that it is about."""


class UserError(Exception):
    """Bad input. Its message is one clear sentence that names the file, the field and the fix.

    `launch.main` prints it without a traceback and exits with `exit_code`. Of a long one the middle is left
    out: file and fix stand at its ends.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} … {message[3 - LONGEST // 2 :]}"
        super().__init__(message)
        self.exit_code = exit_code


class Remark(UserWarning):
    """A warning for a person to read: one sentence, which `launch.main` prints as such."""


def shorten(text: object, most: int = 200) -> str:
    """Return a text on one line of about `most` characters at the most, its middle left out."""
    text = " ".join(str(text).split())
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def brief(value: Any) -> str:
    """Return a value as Python writes it, in few characters and little time whatever it holds."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 2, 100, 100, 40
    try:
        return short.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return f"a {type(value).__name__} of very many digits"


def meant(word: str, known: Iterable[str], least: float = 0.6) -> str:
    """Return the question whether the known word nearest to a mistyped one was meant; "" if none is near.

    `least` is how near, from 0 to 1, the same word.

        meant("trian", VERBS)       # "; did you mean train?"
    """
    import difflib  # needed on the way to an error alone

    nearest = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=least)
    return f"; did you mean {nearest[0]}?" if nearest else ""
