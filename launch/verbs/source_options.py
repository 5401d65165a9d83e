"""The fields of a source as options of a command line."""

from __future__ import annotations

import argparse
import typing
from dataclasses import MISSING, Field, fields
from typing import Any

from launch.verbs.arguments import nonnegative
from shards.clip import Storage
from shards.sources.base import Source


def add_fields(
    parser: argparse.ArgumentParser, kind: type, default: Any = None, without: tuple[str, ...] = ()
) -> None:
    """Declare `--field-name` for every field that has a `help` in its metadata, and perhaps `required`.

    `without` names fields that get no option.
    """
    types = typing.get_type_hints(kind)
    for field in fields(kind):
        if "help" in field.metadata and field.name not in without:
            option = field.metadata.get("option", "--" + field.name.replace("_", "-"))
            parser.add_argument(
                option,
                dest=field.name,
                **_option(field, types[field.name], getattr(default, field.name, MISSING)),
            )


def read_fields(kind: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `kind` that have an option, by name."""
    found = {field.name: getattr(arguments, field.name) for field in fields(kind) if field.name in arguments}
    # Several words are a list to argparse; a source is frozen and hashed.
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def build_source(kind: type[Source], arguments: argparse.Namespace) -> Source:
    """Build the source from the options of the same names."""
    return kind(storage=Storage(**read_fields(Storage, arguments)), **read_fields(kind, arguments))


def _option(field: Field[Any], kind: Any, default: Any) -> dict[str, Any]:
    default = field.default if default is MISSING else default
    help_text = field.metadata["help"]
    if typing.get_origin(kind) is typing.Literal:
        return {
            "choices": typing.get_args(kind),
            "default": default,
            "help": f"{help_text} (default: {default})",
        }
    if typing.get_origin(kind) is tuple:
        listed = {"type": typing.get_args(kind)[0], "nargs": "+", "help": help_text}
        if field.metadata.get("required"):
            return {**listed, "required": True}
        # `extend` would add to a default that is not empty.
        return {**listed, "default": default} if default else {**listed, "action": "extend", "default": []}
    if kind is bool:
        return {"action": "store_true", "help": help_text}
    if field.metadata.get("required"):
        return {"type": kind, "required": True, "help": help_text}
    kind = typing.get_args(kind)[0] if default is None else kind
    kind = nonnegative if kind is float else kind
    if default is None:
        return {"type": kind, "default": None, "help": help_text}
    return {"type": kind, "default": default, "help": f"{help_text} (default: {default})"}
