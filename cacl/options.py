"""What a recipe can set: the base of its dataclasses, and the one way from plain values to them."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from cacl.errors import UserError, brief, meant, shorten

T = TypeVar("T")

_DECIMAL = re.compile(r"\s*[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?\s*")
"""A number as a person writes it."""
_MOST = 20
"""Sentences of one error."""
_LARGEST = 2**63
"""Whole numbers of tensors are below."""


class Options:
    """Fields of a subclass (a frozen dataclass) are keys of a recipe; unknown keys are refused.

    A choice by name is a union of such dataclasses, each with a field `name: Literal["..."]`, joined as
    `Annotated[A | B, pydantic.Field(discriminator="name")]`.
    """

    # A number that is not finite would pass checks such as "above 0" and end a training in its middle.
    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012  (pydantic reads a plain dict)


def parse(kind: type[T], values: Any, source: str) -> T:
    """Check plain `values` (a mapping as YAML gives it) against the dataclass `kind` and return an instance.

    `source` names where the values come from, usually a file. Numbers that YAML reads as text (`1e-3`) are
    numbers here. Raises UserError that names `source`, one sentence for each wrong field.
    """
    import pydantic

    try:
        options = pydantic.TypeAdapter(kind).validate_python(values)
        sentences = list(_misread(values, options, ()))
        if not sentences:
            return options
    except pydantic.ValidationError as error:
        sentences = [_sentence(item, values, kind) for item in error.errors()]
        sentences[_MOST:] = [f"and {len(sentences) - _MOST} more"] if len(sentences) > _MOST else []
    except UserError as error:  # a dataclass's own check of fields that must fit each other
        sentences = [str(error)]
    raise UserError(f"{source}: " + "; ".join(shorten(sentence, 600) for sentence in sentences))


def plain(options: Any) -> Any:
    """Return an Options instance as mappings, lists and scalars, every default filled in."""
    if dataclasses.is_dataclass(options):
        return {field.name: plain(getattr(options, field.name)) for field in dataclasses.fields(options)}
    return [plain(item) for item in options] if isinstance(options, list | tuple) else options


def _misread(given: Any, read: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield a sentence for every value that became a number and that nobody would take for this one."""
    if dataclasses.is_dataclass(read) and isinstance(given, dict):
        for key, value in given.items():
            yield from _misread(value, getattr(read, key, None), (*path, key))
    elif isinstance(given, list | tuple) and isinstance(read, list | tuple):
        for number, (value, item) in enumerate(zip(given, read, strict=False)):
            yield from _misread(value, item, (*path, str(number)))
    elif isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from _misread(value, read.get(key), (*path, str(key)))
    elif isinstance(read, int | float) and not isinstance(read, bool):
        decimal = not isinstance(given, str) or _DECIMAL.fullmatch(given)
        if isinstance(given, bool) or not decimal or (isinstance(read, int) and abs(read) >= _LARGEST):
            yield f"{'.'.join(path)}: expected a decimal number below 2^63, got {brief(given)}"


def _sentence(item: Any, values: Any, kind: Any) -> str:
    where = _location(item["loc"], values) or "the whole"
    match item["type"]:
        case "unexpected_keyword_argument":
            guess = meant(str(item["loc"][-1]), _keys(kind, item["loc"][:-1]))
            return f"{where}: unknown key{guess or ' (remove it or correct its spelling)'}"
        case "missing":
            return f"{where}: missing, and it has no default"
        case "union_tag_invalid":
            known, tag = item["ctx"]["expected_tags"].replace("'", ""), item["ctx"]["tag"]
            guess = meant(str(tag), known.split(", ")) or f"; choose one of {known}"
            return f"{where}.name: there is no {brief(tag)}{guess}"
        case "union_tag_not_found":
            return f"{where}.name: missing (a choice is written {{name: ..., its keys}})"
        case "dataclass_type" | "model_attributes_type":
            return (
                f"{where}: expected a mapping (a choice is written {{name: ...}}), got {brief(item['input'])}"
            )
        case "value_error":  # raised by the dataclass itself, and says what it got
            return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, got {brief(item['input'])}"


def _location(parts: tuple[int | str, ...], values: Any) -> str:
    """Join the keys that lead to an error, less the names of choices, which pydantic adds to them."""
    keys: list[str] = []
    for part in parts:
        if isinstance(values, dict) and part not in values and values.get("name") == part:
            continue
        # A choice by the value's form, such as a path or a list of them, is no key either.
        if keys and isinstance(part, str) and not isinstance(values, dict):
            continue
        keys.append(str(part))
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            values = None
    return ".".join(keys)


def _keys(kind: Any, path: Sequence[int | str]) -> set[str]:
    """Return the keys that there are where `path` leads to from a dataclass, names of choices among it."""
    parts = list(_dataclasses(kind))
    for step in path:
        chosen = [part for part in parts if getattr(part, "name", None) == step]
        hints = [hint for part in parts if (hint := typing.get_type_hints(part).get(str(step))) is not None]
        parts = chosen or [part for hint in hints for part in _dataclasses(hint)] or parts
    return {field.name for part in parts for field in dataclasses.fields(part)}


def _dataclasses(annotation: Any) -> Iterator[Any]:
    """Yield the dataclasses of a type: itself, the members of a union, what a list holds."""
    if dataclasses.is_dataclass(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _dataclasses(part)
