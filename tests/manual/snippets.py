"""The snippets of the manual's pages, and the folder of made data in which they are run."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.main import main

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    """The comment above it: `not run: REASON`, `slow: REASON`, `dry run`, `file: NAME`, or nothing."""

    @property
    def is_run(self) -> bool:
        return not self.mark.startswith("not run: ")

    @property
    def is_slow(self) -> bool:
        return self.mark.startswith("slow: ")

    @property
    def file(self) -> str | None:
        """The file that the snippet is: its mark says so, or its first line does."""
        if self.mark.startswith("file: "):
            return self.mark.removeprefix("file: ")
        named = re.match(r"# ([\w-]+\.(?:py|yaml))\n", self.text)
        return named[1] if named else None

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each line of a shell snippet, continued lines joined and comments left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    """Return the fenced blocks of a page, in their order."""
    text = page.read_text()
    return [
        Snippet(
            page.name,
            text[: found.start("language")].count("\n") + 1,
            found["language"],
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            found["mark"] or "",
        )
        for found in FENCE.finditer(text)
    ]


def run(snippet: Snippet, names: dict[str, Any]) -> None:
    """Run a snippet in the current folder; `names` are those of the page's Python snippets before it."""
    if snippet.file:
        Path(snippet.file).write_text(snippet.text)
    elif snippet.language == "python":
        exec(compile("\n" * snippet.line + snippet.text, snippet.page, "exec"), names)
    elif snippet.language == "sh":
        for words in snippet.commands():
            run_command([*words, "--dry-run"] if snippet.mark == "dry run" else words)


def run_command(words: list[str]) -> None:
    """Run `cacl` in this process, and `torchrun` in one of its own. A training ends after two steps."""
    if words[0] == "torchrun":
        subprocess.run([*TORCHRUN, *words[1:]], check=True, capture_output=True, text=True, timeout=120)
        return
    assert words[0] == "cacl", f"mark it as not run, and say why: {shlex.join(words)}"
    words = [*words, "--max-steps", "2"] if words[1] == "train" else words
    with redirect_stdout(io.StringIO()):
        assert main(words[1:]) == 0, shlex.join(words)
