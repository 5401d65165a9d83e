"""The command line as Markdown: every verb with its docstring, its arguments and their help."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator

from launch.main import VERBS


def reference() -> str:
    """Return Markdown of every verb, a section of level 2 each, and one of level 3 for a verb below it."""
    return "\n\n".join(part for verb in VERBS for part in _sections(parser_of(verb), 2)) + "\n"


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, as `cacl VERB` makes it."""
    module = importlib.import_module(f"launch.verbs.{VERBS[verb][0]}")
    parser = argparse.ArgumentParser(
        prog=f"cacl {verb}", description=module.__doc__, allow_abbrev=False, add_help=False
    )
    module.add_arguments(parser)
    return parser


def children(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return the verbs below a verb, each with its one line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (below, helps[name]) for name, below in action.choices.items()}
    return {}


def _sections(parser: argparse.ArgumentParser, level: int, line: str = "") -> Iterator[str]:
    yield f"{'#' * level} {parser.prog}"
    yield _text(parser.description or f"{line[:1].upper()}{line[1:]}.")
    if rows := [row for action in parser._actions for row in _definition(parser, action)]:
        yield "\n".join(rows)
    if parser.epilog:
        yield _text(parser.epilog)
    for below, help_text in children(parser).values():
        yield from _sections(below, level + 1, help_text)


def _definition(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """Return an argument as an entry of a Markdown definition list."""
    if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
        return []
    formatter = parser._get_formatter()
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    shown = (
        f"{names} `{value}`" if names and action.nargs != 0 else names or f"`{action.metavar or action.dest}`"
    )
    note = " (required)" if action.required and action.option_strings else ""
    return [shown + note, f": {_escape(formatter._expand_help(action))}", ""]


def _text(docstring: str) -> str:
    """Return a docstring as Markdown: its indented blocks fenced, as shell."""
    blocks = re.split(r"\n\n(?=    )|(?<=\n)\n(?=\S)|\n\n(?=\S)", inspect.cleandoc(docstring))
    return "\n\n".join(
        f"```sh\n{inspect.cleandoc(block)}\n```" if block.startswith("    ") else _escape(block.strip())
        for block in blocks
    )


def _escape(prose: str) -> str:
    """Return a sentence with options as code and pages as links, in which < and * mean nothing else."""
    return "".join(part if part.startswith("`") else _plain(part) for part in re.split(r"(`[^`]+`)", prose))


def _plain(words: str) -> str:
    words = re.sub(r"([<*])", r"\\\1", words)
    words = re.sub(r"(?<![\w-])--[a-z]+(?:[-.][a-z]+)*", r"`\g<0>`", words)
    return re.sub(r"\bdocs/([\w-]+\.md)", r"[\g<0>](\1)", words)
