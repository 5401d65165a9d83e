"""Recipes and spaces as files: YAML in which a key stands once, overrides, and what comes with cacl."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cacl.errors import Remark, UserError, brief, meant, shorten
from cacl.files import regular
from cacl.runs.renamed import rename_keys, rename_override
from cacl.runs.strict_yaml import parse_value, parse_yaml

if TYPE_CHECKING:
    from launch.jobs.recipe import Recipe

MEASURED = {"validation", "validation_labels", "test"}
"""Keys of `data` that name the clips by which a training is chosen and measured."""
_COMES_ALONG = Path(__file__).resolve().with_name("recipes")
OVERRIDES_HELP = "Any key of the recipe can be set by its dotted name: `--optimizer.learning-rate 1e-3`."


def load_recipe(path: str | Path, overrides: list[str]) -> Recipe:
    """Read a recipe and apply overrides (`["--a.b-c", "value", ...]`).

    Raises UserError, one sentence, for a missing file, unknown key, wrong type or unknown protocol.
    """
    values, examples = _on_its_base(find(path), ())
    from cacl.options import parse, plain
    from launch.jobs.recipe import Recipe, check_protocol  # what follows takes PyTorch

    recipe = parse(Recipe, values, str(path))
    if not overrides:
        return check_protocol(recipe, str(path))
    before, source = plain(recipe), f"{path} with {' '.join(overrides)}"
    changed = rename_keys(override(before, overrides), " ".join(overrides))
    named = {word[7:].partition("=")[0].replace("-", "_") for word in overrides if word[:7] == "--data."}
    return check_protocol(parse(Recipe, _own(before, changed, examples - named, source), source), source)


def complete_recipe(
    recipe: str | Path | Mapping[str, Any] | Recipe, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """Return a recipe, given as a file, by name, as values, or whole, with `changes` laid over it.

    Sections of `changes` are merged as a recipe's are with its base. Raises UserError as `load_recipe` does.
    """
    from cacl.options import parse, plain
    from launch.jobs.recipe import Recipe, check_protocol

    if isinstance(recipe, str | Path):
        (values, examples), source = _on_its_base(find(recipe), ()), str(recipe)
    else:
        values, source = plain(recipe) if isinstance(recipe, Recipe) else at_home(dict(recipe)), "recipe"
        examples = set()
    if changes:
        before, source = values, f"{source} with {', '.join(changes)}"
        values = merge(before, at_home(dict(changes)))
        values = _own(before, values, examples - _keys(changes), source)
    return check_protocol(parse(Recipe, rename_keys(values, source), source), source)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Return what a recipe's file says, over what its `base` says if it names one.

    `base` is the path of another recipe, from this file's folder, or the name of one that comes with cacl;
    where this one names other training clips than that, it takes neither its validation nor its test clips.
    Raises UserError for a base that is not there, or that leads back to a recipe that it is the base of.
    """
    return _on_its_base(find(path), ())[0]


def _on_its_base(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], set[str]]:
    """Return a recipe's values, and which of `MEASURED` they have from a recipe that comes with cacl."""
    if path.resolve() in above:
        chain = " → ".join(each.name for each in (*above, path))
        raise UserError(f"{path}: base: recipes are each other's base ({chain}); take one of them out")
    values = rename_keys(read_yaml(path), str(path))
    own = _keys(values) & MEASURED if path.resolve().parent == _COMES_ALONG else set()
    if "base" not in values:
        return values, own
    name = values.pop("base")
    if not isinstance(name, str):
        raise UserError(f"{path}: base: expected the name or path of a recipe, got {brief(name)}")
    beside = path.parent / name
    try:
        base, examples = _on_its_base(beside if beside.is_file() else find(name), (*above, path.resolve()))
    except UserError as error:
        raise UserError(f"{path}: base: {error}") from error
    examples -= _keys(values)
    return _own(base, merge(base, values), examples, str(path)), own | examples


def _own(
    before: Mapping[str, Any], values: dict[str, Any], examples: Collection[str], source: str
) -> dict[str, Any]:
    """Return a recipe's `values` without the clips of an example, where they name other training clips.

    `examples` are those of `MEASURED` that a recipe which comes with cacl has named, and nobody since.
    """
    data, old = values.get("data"), before.get("data")
    if not isinstance(data, dict) or not isinstance(old, dict) or data.get("train") == old.get("train"):
        return values
    left = {key: data[key] for key in sorted(examples) if data.get(key) is not None}
    if not left:
        return values
    named = " and ".join(f"data.{key} {value}" for key, value in left.items())
    are = "is" if len(left) == 1 else "are"
    warnings.warn(
        f"{source}: data.train is its own, so {named} of the recipe below it {are} left out; name your own, "
        "if you have them",
        Remark,
        2,
    )
    return {**values, "data": {key: value for key, value in data.items() if key not in left}}


def _keys(values: Mapping[str, Any]) -> set[str]:
    """Return the keys of a recipe's section `data`."""
    data = values.get("data")
    return set(data) if isinstance(data, Mapping) else set()


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested mappings with `changes` over `base`.

    If a choice by name gets another name, what the base says of the choice before it goes.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name") in (None, old.get("name")):
            value = merge(old, value)
        merged[key] = value
    return merged


def find(name: str | Path, kind: Literal["recipes", "spaces"] = "recipes") -> Path:
    """Return a path as it is, and for a bare name the file of that name that comes with cacl.

    Raises UserError for a name that is neither.
    """
    path = Path(name)
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    known = {file.stem: file for file in sorted(Path(__file__).with_name(kind).glob("*.yaml"))}
    if str(name) not in known:
        guess = meant(str(name), known)
        raise UserError(
            f"{name}: no such file, and the {kind} that come with cacl are {', '.join(known)}{guess}"
        )
    return known[str(name)]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping. Raises UserError otherwise."""
    try:
        text = regular(Path(path), "give the path of a recipe").read_text(encoding="utf-8-sig")
    except OSError as error:
        name = Path(path).stem
        own = Path(__file__).with_name("recipes").joinpath(f"{name}.yaml").is_file()
        instead = f", or the name of the one that comes with cacl: {name}" if own else ""
        fix = f"give the path of a recipe{instead}"
        raise UserError(f"{path}: {error.strerror or error}; {fix}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    values = at_home(parse_yaml(text, str(path)))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, this is a {type(values).__name__}")
    return values


def at_home(value: Any) -> Any:
    """Return plain values with every text `~/...` as a path in the home folder, as the shell has it.

    Raises UserError where there is no such home.
    """
    if isinstance(value, dict):
        return {key: at_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [at_home(item) for item in value]
    if not isinstance(value, str) or not re.match("~[^/]*/", value):
        return value
    path = os.path.expanduser(value)
    if path == value:
        raise UserError(f"{value}: there is no such home folder; write the path in full")
    return path


def word_at_home(word: str) -> str:
    """Return a word with `~/...` or `--option=~/...` as a path in the home folder: bash leaves the second."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value == "~" and equals and "." not in option:  # `--data.test=~` is YAML's null
        value = "~/"
    return option + equals + at_home(value)


def override(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Return resolved `values` with `["--a.b-c", "1e-3"]` or `["--a.b-c=1e-3"]` set at `["a"]["b_c"]`.

    A choice by name may be given by its name alone: `--loss.similarity max` is `{name: max}`. Where a name
    changes, what was set for the choice before it goes.
    """
    values = dict(values)
    rest = list(overrides)
    while rest:
        key = rest.pop(0)
        if not key.startswith("--") or len(key) < 3:
            raise UserError(f"{key!r} is not an option; an override is written --section.key value")
        key, _, text = key[2:].partition("=")
        if not _:
            if not rest:
                raise UserError(f"--{key}: its value is missing; write --{key} VALUE")
            text = rest.pop(0)
        _set(values, key, at_home(parse_value(text, f"--{key} {shorten(text)}")))
    return values


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = rename_override(dotted.replace("-", "_")).split(".")
    for parent in parents:
        below = values.get(parent)
        if not isinstance(below, dict) and below is not None:
            raise UserError(f"--{dotted}: {parent} is {brief(below)} in the recipe, which has no keys")
        values[parent] = dict(below or {})
        values = values[parent]
    old = values.get(last)
    if isinstance(old, dict) and "name" in old and isinstance(value, str):
        value = {"name": value}
    if last == "name" and values.get("name") != value:
        values.clear()
    values[last] = value
