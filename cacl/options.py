"""What a recipe can set: the base of its dataclasses, and the one way from plain values to them."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from cacl.errors import UserError

T = TypeVar("T")


class Options:
    """Fields of a subclass (a frozen dataclass) are keys of a recipe; unknown keys are refused.

    A choice by name is a union of such dataclasses, each with a field `name: Literal["..."]`, joined as
    `Annotated[A | B, pydantic.Field(discriminator="name")]`.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (pydantic reads a plain dict)


def parse(kind: type[T], values: Any, source: str) -> T:
    """Check plain `values` (a mapping as YAML gives it) against the dataclass `kind` and return an instance.

    `source` names where the values come from, usually a file. Numbers that YAML reads as text (`1e-3`) are
    numbers here. Raises UserError that names `source`, one sentence for each wrong field.
    """
    import pydantic

    try:
        return pydantic.TypeAdapter(kind).validate_python(values)
    except pydantic.ValidationError as error:
        sentences = [_sentence(item, values) for item in error.errors()]
    except UserError as error:  # a dataclass's own check of fields that must fit each other
        sentences = [str(error)]
    raise UserError(f"{source}: " + "; ".join(sentences))


def plain(options: Any) -> Any:
    """Return an Options instance as mappings, lists and scalars, every default filled in."""
    if dataclasses.is_dataclass(options):
        return {field.name: plain(getattr(options, field.name)) for field in dataclasses.fields(options)}
    return [plain(item) for item in options] if isinstance(options, list | tuple) else options


def _sentence(item: Any, values: Any) -> str:
    where = _location(item["loc"], values) or "the whole"
    match item["type"]:
        case "unexpected_keyword_argument":
            return f"{where}: unknown key (remove it or correct its spelling)"
        case "missing":
            return f"{where}: missing, and it has no default"
        case "union_tag_invalid":
            known = item["ctx"]["expected_tags"].replace("'", "")
            return f"{where}.name: there is no {item['ctx']['tag']!r}; choose one of {known}"
        case "union_tag_not_found":
            return f"{where}.name: missing (a choice is written {{name: ..., its keys}})"
        case "dataclass_type" | "model_attributes_type":
            return f"{where}: expected a mapping (a choice is written {{name: ...}}), got {item['input']!r}"
        case "value_error":  # raised by the dataclass itself, and says what it got
            return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _location(parts: tuple[int | str, ...], values: Any) -> str:
    """Join the keys that lead to an error, less the names of choices, which pydantic adds to them."""
    keys = []
    for part in parts:
        if isinstance(values, dict) and part not in values and values.get("name") == part:
            continue
        keys.append(str(part))
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            values = None
    return ".".join(keys)
