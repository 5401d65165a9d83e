"""What a recipe can set, as Markdown: every key with its type, its default and its field's docstring."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, Literal, NamedTuple, Union

from annotated_types import Ge, Gt, Le, Lt

from cacl.options import plain


class Key(NamedTuple):
    """One key of a recipe."""

    name: str
    """Dotted, as on the command line: `loss.temperature`."""
    kind: str
    """Its type in words."""
    default: str | None
    """As YAML, None where a value must be given."""
    text: str
    """What it does: the docstring of its field."""


def reference(root: type, first: int = 2) -> str:
    """Return Markdown of every key of the dataclass `root`, a section for each key that has keys below it.

    The first sections are headings of level `first`, those within them of the next one.
    """
    return "\n\n".join(_sections(root, "", first, first + 1)) + "\n"


def keys_of(kind: type, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a dataclass that hold plain values."""
    hints = typing.get_type_hints(kind, include_extras=True)
    texts = field_docstrings(kind)
    for field in fields(kind):
        if field.name != "name" and not choices(hints[field.name]):
            yield Key(
                prefix + field.name, words(hints[field.name]), _default(field), texts.get(field.name, "")
            )


def choices(hint: Any) -> list[type]:
    """Return the dataclasses that a type chooses among, [] for a plain value."""
    hint = _bare(hint)
    members = typing.get_args(hint) if _is_union(hint) else (hint,)
    return [member for member in members if isinstance(member, type) and is_dataclass(member)]


def elements(hint: Any) -> list[type]:
    """Return the dataclasses without a name that a list of this type holds, or one of several types."""
    hint = _bare(hint)
    if _is_union(hint):
        return [kind for member in typing.get_args(hint) for kind in elements(member)]
    if typing.get_origin(hint) not in (tuple, list):
        return []
    kinds = choices(typing.get_args(hint)[0])
    return [kind for kind in kinds if all(field.name != "name" for field in fields(kind))]


def field_docstrings(kind: type) -> dict[str, str]:
    """Return field → the docstring that stands below it in the source, inherited fields included."""
    found: dict[str, str] = {}
    for owner in reversed([each for each in kind.__mro__ if is_dataclass(each)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for statement, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found[statement.target.id] = inspect.cleandoc(text)
    return found


def words(hint: Any) -> str:
    """Return a type as a reader of recipes says it."""
    if typing.get_origin(hint) is Annotated:
        kind, *notes = typing.get_args(hint)
        bounds = [_bounds(each) for note in notes for each in getattr(note, "metadata", [note])]
        return " ".join([words(kind), *filter(None, bounds)])
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        return " or ".join(words(member) for member in inner)
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in inner)
    if origin in (tuple, list):
        if elements(hint):
            return "list of mappings"
        listed = choices(inner[0])
        return "list of " + (", ".join(f"`{{name: {_tag(kind)}}}`" for kind in listed) or words(inner[0]))
    if origin is dict or hint is dict or typing.get_origin(hint) is not None:
        return "mapping"
    return {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}[hint]


def _sections(kind: type, prefix: str, level: int, deepest: int, choice: str = "") -> Iterator[str]:
    """Yield the plain keys of `kind`, and then a section for each key with keys below it.

    `choice` is the name of the choice that `kind` is, for anchors that stand once on the page.
    """
    if keys := list(keys_of(kind, prefix)):
        yield _definitions(keys, choice)
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        members = choices(hints[field.name])
        name, heading = prefix + field.name, "#" * min(level, deepest)
        for element in elements(hints[field.name]):
            yield f"{heading} Each of the list {name}"
            yield _text(element)
            yield from _sections(element, f"{name}.", level + 1, deepest)
        if not members:
            continue
        yield f"{heading} {name}"
        if len(members) == 1:
            yield _text(members[0])
            yield from _sections(members[0], f"{name}.", level + 1, deepest)
            continue
        tags = ", ".join(f"`{_tag(member)}`" for member in members)
        yield f"A choice by name: {tags}. Default: `{plain(_value(field))['name']}`."
        for member in members:
            yield f"[**`{name}: {{name: {_tag(member)}}}`**]{{#{_anchor(name, _tag(member))}}}"
            yield _text(member)
            yield from _sections(member, f"{name}.", level + 1, deepest, _tag(member))


def _definitions(keys: list[Key], choice: str) -> str:
    """Return keys as a Markdown definition list, each with an anchor."""
    lines = []
    for key in keys:
        default = "required" if key.default is None else f"default `{key.default}`"
        lines.append(f"[`{key.name}`]{{#{_anchor(key.name, choice)}}} — {key.kind}, {default}")
        lines += [f": {' '.join(key.text.split())}", ""]
    return "\n".join(lines)


def _anchor(key: str, choice: str) -> str:
    return "-".join([*key.replace("_", "-").split("."), *([f"of-{choice}"] if choice else [])])


def _text(kind: type) -> str:
    """Return a class's docstring up to its first example."""
    return inspect.cleandoc(kind.__doc__ or "").split(">>>")[0].strip()


def _default(field: Field[Any]) -> str | None:
    value = _value(field)
    if value is MISSING:
        return None
    value = plain(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "[]" if value in ([], ()) else "{}" if value == {} else str(value)


def _value(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _tag(kind: type) -> str:
    return str(next(field.default for field in fields(kind) if field.name == "name"))


def _bare(hint: Any) -> Any:
    return _bare(typing.get_args(hint)[0]) if typing.get_origin(hint) is Annotated else hint


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _bounds(note: Any) -> str:
    """Return what a constraint allows, "" for a note that is none."""
    match note:
        case Gt(gt):
            return f"above {gt}"
        case Ge(ge):
            return f"of {ge} or more"
        case Lt(lt):
            return f"below {lt}"
        case Le(le):
            return f"up to {le}"
    return ""
