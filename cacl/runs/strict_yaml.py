"""YAML as a person reads it: what could be read in two ways is refused, and so is what has no end.

Recipes come from anybody, so that time, memory and messages are bounded whatever a file says.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from cacl.errors import UserError, shorten

_DEPTH = 50
"""Levels of lists and mappings within each other."""
_NODES = 100_000
"""Values that a text may stand for, aliases counted as often as they are used."""
_DIGITS = 30
"""Characters of a whole number; more is no number of ours, and Python itself refuses 4,300."""
_LENGTH = 1 << 20
"""Characters of a text."""
_OTHERWISE = re.compile(
    r"[-+]?(0[0-9_]+|0o[0-7_]+|0[xX][0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[0-9]+(_[0-9]+)+(\.[0-9_]*)?)"
)
"""Octal, hexadecimal and binary numbers, those of base 60, and digits in groups."""
_YES = re.compile("yes|no|on|off", re.IGNORECASE)


class _Loader(yaml.SafeLoader):
    """Composes values within bounds; each key of a mapping stands once."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        mark = event.start_mark
        self._depth += 1
        if self._depth > _DEPTH:
            raise ConstructorError(problem=f"more than {_DEPTH} brackets or levels deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[id(node)] = 1 + sum(map(self._size, _parts(node)))
        if node is not None and self._size(node) > _NODES:
            raise ConstructorError(problem=f"stands for more than {_NODES} values", problem_mark=mark)
        return node

    def _size(self, node: yaml.Node) -> int:
        if id(node) not in self._sizes:  # it is not composed to its end
            raise ConstructorError(problem="an alias leads back to itself", problem_mark=node.start_mark)
        return self._sizes[id(node)]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value} stands here for the second time"
                raise ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.style is None:  # without quotes
            _refuse_double_meaning(node)
        return super().construct_scalar(node)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_double_meaning(node: yaml.ScalarNode) -> None:
    text = node.value
    problem = ""
    if _OTHERWISE.fullmatch(text):
        problem = (
            f"{text} has other meanings than a decimal number; write its plain digits, or '{text}' as text"
        )
    elif _YES.fullmatch(text):
        problem = f"{text} is read in two ways; write true or false, or '{text}' as text"
    if node.tag.endswith(":int") and len(text) > _DIGITS:
        problem = f"a number of {len(text)} digits"
    if problem:
        raise ConstructorError(problem=problem, problem_mark=node.start_mark)


# A date is text: nothing of ours is a day, and a folder may be named by one.
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, source: str) -> Any:
    """Return what YAML `text` says. Raises UserError that names `source` and the line."""
    if len(text) > _LENGTH:
        raise UserError(f"{source}: too long for a recipe ({len(text)} characters, at most {_LENGTH})")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}{line}: not YAML: {shorten(error.problem or error.context)}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: not YAML: {shorten(' '.join(str(error).split()))}") from error


def parse_value(text: str, source: str) -> Any:
    """Return the value that a word of the command line is: YAML where it opens with a bracket or a quote.

    Anything else is one plain value: `3`, `clips #2`, `a: b`. Raises UserError as `parse_yaml` does.
    """
    if text.lstrip()[:1] in ("[", "{", '"', "'"):
        value = parse_yaml(text, source)
        if _ends_early(text):
            raise UserError(f"{source}: more stands behind the value's end; leave it out, or quote the whole")
        return value
    loader = _Loader("")
    word = text.strip()
    node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, word, (True, False)), word)
    if node.tag.endswith((":merge", ":value")):
        return word
    try:
        return loader.construct_object(node) if word else None
    except ConstructorError as error:
        raise UserError(f"{source}: {shorten(error.problem)}") from error


def _ends_early(text: str) -> bool:
    """Say whether a comment follows the value that `text` opens with."""
    node = yaml.compose(text, yaml.SafeLoader)
    return node is not None and bool(text[node.end_mark.index :].strip())
