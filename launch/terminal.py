"""What a verb prints: whatever names hold, whatever the terminal can show, whether or not anybody reads it.

`terminal()` stands around a verb: all that is printed in it, by anybody and to either stream, comes through.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves or colors text, or turns its direction. Lines and tabs are the verbs' own."""
_MOVES = re.compile("(\x1b\\[\\d*[AFJK]|[\r\n])+")
"""How progress bars and live tables move: by writes of nothing else, or a return at the beginning of one."""
_PLAIN = str.maketrans({"→": "->", "≥": ">=", "≤": "<=", "…": "...", "–": "-", "×": "x", "α": "alpha"})
"""Our own signs, for terminals that lack them."""
_GONE = (errno.EPIPE, errno.EIO)
"""How writing fails when the reader (`| head`) or the terminal has gone."""


def visible(text: str) -> str:
    r"""Return `text` with control characters as they are written, such as `\x1b`."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return `text` as `visible` does, and its line breaks and tabs as they are written too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


class Terminal(io.TextIOBase):
    """A text stream in front of another one.

    It writes control characters as visible text, and signs that the stream's encoding lacks in others. Once
    the reader has gone it takes everything and writes nothing: who works goes on working.
    """

    def __init__(self, stream: TextIO, moves: bool) -> None:
        """`moves` says whether progress bars and tables that are drawn anew are written here."""
        self.stream, self.moves = stream, moves

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        """Say whether a person looks at it."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream behind it."""
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream behind it."""
        return self.stream.encoding or "utf-8"

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, text: str) -> int:
        """Write text, its control characters made visible."""
        begin = 0
        if self.moves:
            begin = len(text) if _MOVES.fullmatch(text) else int(text.startswith("\r"))
        with self._reader():
            self.stream.write(text[:begin] + self._shown(visible(text[begin:])))
        return len(text)

    def flush(self) -> None:
        """Bring out what is written."""
        with self._reader():
            self.stream.flush()

    def _shown(self, text: str) -> str:
        try:
            text.encode(self.encoding)
            return text
        except UnicodeEncodeError:
            known = text.translate(_PLAIN)
            return known.encode(self.encoding, "backslashreplace").decode(self.encoding)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            silence(self.stream)


def silence(stream: TextIO) -> None:
    """Let everything go nowhere that is or will be written to a stream, by started processes too."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Let all that is printed within go through `Terminal`; closed standard streams are opened to nowhere."""
    before = sys.stdout, sys.stderr
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file takes the place of one
        pass
    os.close(descriptor)
    nowhere = [open(os.devnull, "w") for stream in before if stream is None]  # noqa: SIM115
    own = [nowhere[0] if stream is None else Terminal(stream, moves=stream is before[1]) for stream in before]
    sys.stdout, sys.stderr = own[0], own[1]
    try:
        yield
    finally:
        try:
            own[1].flush()
            own[0].flush()
        finally:
            sys.stdout, sys.stderr = before
            for stream in nowhere:
                stream.close()
